# install: what is installed suffices to build and run a program outside the project.
#   cmake -D BUILD=... -D SOURCE=... -D CONFIG=... -D GENERATOR=... -D C_COMPILER=... -D CXX_COMPILER=... -D FLAGS=... -P install_test.cmake
set(work ${BUILD}/install_test)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed (${status}): ${command}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix --config ${CONFIG})
foreach(file bin/slackline share/man/man1/slackline.1 share/slackline/profiles/gpt3-175b-a100-sxm.yaml
    share/doc/slackline/LICENSE share/doc/slackline/NOTICE share/doc/slackline/policy.example.yaml share/doc/slackline/agent.md
    lib/systemd/system/slackline-agent.service lib/tmpfiles.d/slackline.conf lib/sysusers.d/slackline.conf)
  if(NOT EXISTS ${work}/prefix/${file})
    message(FATAL_ERROR "not installed: ${file}")
  endif()
endforeach()
run(${work}/prefix/bin/slackline plan ${work}/prefix/share/slackline/profiles/gpt3-175b-a100-sxm.yaml --microbatches 8)
if(EXISTS ${work}/prefix/bin/slackline-demo-train)
  run(${work}/prefix/bin/slackline-demo-train --help)  # finds the installed libslackline.so
endif()

# The service starts, and cleans up with, the program that was installed with it.
set(unit ${work}/prefix/lib/systemd/system/slackline-agent.service)
file(READ ${unit} text)
foreach(command "ExecStart=${work}/prefix/bin/slackline agent " "ExecStopPost=${work}/prefix/bin/slackline restore\n")
  string(FIND "${text}" "\n${command}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "${unit} has no line '${command}'")
  endif()
endforeach()
if(text MATCHES "@[A-Z_]+@")
  message(FATAL_ERROR "${unit}: nobody replaced ${CMAKE_MATCH_0}")
endif()
run(${CMAKE_COMMAND} -E env SLACKLINE_RUNTIME_DIR=${work}/run ${work}/prefix/bin/slackline restore)
find_program(SYSTEMD_ANALYZE systemd-analyze)
if(SYSTEMD_ANALYZE)
  run(${SYSTEMD_ANALYZE} verify --man=no ${unit})
  run(${SYSTEMD_ANALYZE} security --offline=yes --threshold=30 --no-pager ${unit})
endif()
# What is in /etc is the administrator's.
if(EXISTS ${work}/prefix/etc)
  message(FATAL_ERROR "installed: ${work}/prefix/etc")
endif()

run(${CMAKE_COMMAND} -S ${SOURCE} -B ${work}/build -G ${GENERATOR} -D CMAKE_PREFIX_PATH=${work}/prefix -D CMAKE_BUILD_TYPE=${CONFIG}
  -D CMAKE_C_COMPILER=${C_COMPILER} -D CMAKE_CXX_COMPILER=${CXX_COMPILER} -D CMAKE_C_FLAGS=${FLAGS} -D CMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${work}/build --config ${CONFIG})
run(${work}/build/consumer)
if(EXISTS ${work}/build/client_consumer)
  run(${work}/build/client_consumer)
endif()

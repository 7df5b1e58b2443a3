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
    share/doc/slackline/LICENSE share/doc/slackline/NOTICE)
  if(NOT EXISTS ${work}/prefix/${file})
    message(FATAL_ERROR "not installed: ${file}")
  endif()
endforeach()
run(${work}/prefix/bin/slackline plan ${work}/prefix/share/slackline/profiles/gpt3-175b-a100-sxm.yaml --microbatches 8)
if(EXISTS ${work}/prefix/bin/slackline-demo-train)
  run(${work}/prefix/bin/slackline-demo-train --help)  # finds the installed libslackline.so
endif()

run(${CMAKE_COMMAND} -S ${SOURCE} -B ${work}/build -G ${GENERATOR} -D CMAKE_PREFIX_PATH=${work}/prefix -D CMAKE_BUILD_TYPE=${CONFIG}
  -D CMAKE_C_COMPILER=${C_COMPILER} -D CMAKE_CXX_COMPILER=${CXX_COMPILER} -D CMAKE_C_FLAGS=${FLAGS} -D CMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${work}/build --config ${CONFIG})
run(${work}/build/consumer)
if(EXISTS ${work}/build/client_consumer)
  run(${work}/build/client_consumer)
endif()

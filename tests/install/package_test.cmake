# package: cpack makes a Debian package that holds the service, says what it needs, and leaves /etc alone.
#   cmake -D BUILD=... -D CPACK=... -D CONFIG=... -D DPKG_DEB=... -D VERSION=... -P package_test.cmake
set(work ${BUILD}/package_test)
file(REMOVE_RECURSE ${work})

function(output out)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

function(expect text pattern)
  if(NOT text MATCHES "${pattern}")
    message(SEND_ERROR "'${pattern}' is not in:\n${text}")
  endif()
endfunction()

output(ignored ${CPACK} -G DEB -C ${CONFIG} --config ${BUILD}/CPackConfig.cmake -B ${work})
file(GLOB package ${work}/slackline_${VERSION}_*.deb)
output(fields ${DPKG_DEB} --field ${package})
expect("${fields}" "(^|\n)Package: slackline\n")
expect("${fields}" "\nVersion: ${VERSION}\n")
find_program(SHLIBDEPS dpkg-shlibdeps)
find_program(FILE_UTILITY file)
if(SHLIBDEPS AND FILE_UTILITY)
  expect("${fields}" "\nDepends: [^\n]*libc6[^\n]*libyaml-cpp")
endif()

output(content ${DPKG_DEB} --contents ${package})
foreach(file bin/slackline lib/libslackline.so.0 lib/systemd/system/slackline-agent.service lib/tmpfiles.d/slackline.conf
    lib/sysusers.d/slackline.conf share/doc/slackline/policy.example.yaml share/man/man1/slackline.1)
  expect("${content}" "root/root [^\n]* \\./usr/${file}( ->|\n)")
endforeach()
if(content MATCHES " \\./(etc|run|var|lib)/")
  message(SEND_ERROR "the package holds ${CMAKE_MATCH_0}:\n${content}")
endif()

output(ignored ${DPKG_DEB} --raw-extract ${package} ${work}/content)
file(READ ${work}/content/usr/lib/systemd/system/slackline-agent.service unit)
expect("${unit}" "\nExecStart=/usr/bin/slackline agent --policy /etc/slackline/policy.yaml ")
expect("${unit}" "\nExecStopPost=/usr/bin/slackline restore\n")

# The scripts are sound shell, and none of them starts the agent.
foreach(script postinst prerm postrm)
  output(ignored sh -n ${work}/content/DEBIAN/${script})
  file(READ ${work}/content/DEBIAN/${script} text)
  if(text MATCHES "\n *systemctl [^\n]*(start|enable)")
    message(SEND_ERROR "${script} starts the agent: ${CMAKE_MATCH_0}")
  endif()
endforeach()
if(EXISTS ${work}/content/DEBIAN/conffiles)
  message(SEND_ERROR "the package has conffiles")
endif()

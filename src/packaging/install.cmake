# The agent as a service. systemd, tmpfiles and sysusers look into lib/ below /usr and /usr/local, never into
# lib/ARCHITECTURE. Nothing goes to /etc: the policy there is the administrator's.
install(FILES ${CMAKE_CURRENT_LIST_DIR}/slackline.tmpfiles.conf DESTINATION lib/tmpfiles.d RENAME slackline.conf)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/slackline.sysusers.conf DESTINATION lib/sysusers.d RENAME slackline.conf)
install(FILES ${CMAKE_CURRENT_LIST_DIR}/policy.example.yaml DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${CMAKE_CURRENT_LIST_DIR}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME agent.md)

# The unit names the binary, whose place is known only now: `cmake --install --prefix` may differ from what
# was configured. Two may run at once, so each writes a file of its own.
install(CODE "
  set(SLACKLINE_BINARY \"${CMAKE_INSTALL_BINDIR}/slackline\")
  set(SLACKLINE_DOC_DIR \"${CMAKE_INSTALL_DOCDIR}\")
  cmake_path(ABSOLUTE_PATH SLACKLINE_BINARY BASE_DIRECTORY \"\${CMAKE_INSTALL_PREFIX}\" NORMALIZE)
  cmake_path(ABSOLUTE_PATH SLACKLINE_DOC_DIR BASE_DIRECTORY \"\${CMAKE_INSTALL_PREFIX}\" NORMALIZE)
  string(MD5 place \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\")
  set(unit \"${PROJECT_BINARY_DIR}/packaging/\${place}/slackline-agent.service\")
  configure_file(\"${CMAKE_CURRENT_LIST_DIR}/slackline-agent.service.in\" \"\${unit}\" @ONLY)
  file(INSTALL \"\${unit}\" DESTINATION \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system\")
")

if(PROJECT_IS_TOP_LEVEL)
  include(${CMAKE_CURRENT_LIST_DIR}/cpack.cmake)
endif()

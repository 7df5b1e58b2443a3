# `cd build/release && cpack -G DEB` makes slackline_VERSION_ARCH.deb: all that `cmake --install` puts below
# /usr, and scripts that make the agent's group and folders. They do not start the agent.
#
# No conffile. A policy shipped as one would be the example, and each change of its comments would have dpkg
# ask the administrator which to keep. Without /etc/slackline/policy.yaml the agent ends and says so.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME slackline)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "Slackline maintainers <root@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_DESCRIPTION "Measures what every stage of a training pipeline costs at every GPU clock, plans the
exact time-energy frontier of an iteration, and runs the job at the clocks that use the least energy.
Holds the command, the agent that leases GPU clocks to unprivileged jobs, and the libraries.")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_VERBATIM_VARIABLES ON)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
foreach(script IN ITEMS postinst prerm postrm triggers)
  list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_CURRENT_LIST_DIR}/debian/${script})
endforeach()
# Dependencies are what the programs link, so a package fits the release of Debian that it was built on.
find_program(SLACKLINE_DPKG_SHLIBDEPS dpkg-shlibdeps)
find_program(SLACKLINE_FILE file)
mark_as_advanced(SLACKLINE_DPKG_SHLIBDEPS SLACKLINE_FILE)
if(SLACKLINE_DPKG_SHLIBDEPS AND SLACKLINE_FILE)
  set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR})  # libslackline.so, in this package itself
endif()
include(CPack)

# What `cmake --install build/release --prefix DIR` puts where: programs, the layers with their headers and a
# CMake package (find_package(slackline), targets slackline::<layer>), the manual page, the profiles and the agent's
# service.
include(CMakePackageConfigHelpers)

get_property(slackline_layers GLOBAL PROPERTY SLACKLINE_LAYERS)
set(slackline_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/slackline)
set(slackline_installed ${slackline_layers})
foreach(layer IN LISTS slackline_layers)
  target_compile_features(${layer} PUBLIC cxx_std_20)  # their headers ask it of whoever includes them
endforeach()
foreach(target slackline slackline-demo-train)
  if(TARGET ${target})
    set_target_properties(${target} PROPERTIES INSTALL_RPATH $ORIGIN/../${CMAKE_INSTALL_LIBDIR})
    install(TARGETS ${target} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
if(TARGET slackline_client)
  list(APPEND slackline_installed slackline_client)
  set_target_properties(slackline_client PROPERTIES EXPORT_NAME client)
endif()
install(TARGETS ${slackline_installed} EXPORT slacklineTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h)

install(EXPORT slacklineTargets NAMESPACE slackline:: DESTINATION ${slackline_package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/slacklineConfig.cmake.in ${PROJECT_BINARY_DIR}/slacklineConfig.cmake
  INSTALL_DESTINATION ${slackline_package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/slacklineConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/slacklineConfig.cmake ${PROJECT_BINARY_DIR}/slacklineConfigVersion.cmake
  DESTINATION ${slackline_package_dir})

install(FILES ${CMAKE_CURRENT_LIST_DIR}/cli/slackline.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/profiles DESTINATION ${CMAKE_INSTALL_DATADIR}/slackline)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})

include(${CMAKE_CURRENT_LIST_DIR}/packaging/install.cmake)

# cmake --install: headers, both libraries, program, man page, toolring.pc, CMake package.
include(CMakePackageConfigHelpers)

if(NOT TARGET toolring_static)
    return()
endif()

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
set(libraries toolring_static)
# What the static library needs is private as long as the shared one, which has it, is there too.
set(pc_PRIVATE .private)
set(pc_STATIC "")
if(TARGET toolring)
    list(APPEND libraries toolring)
else()
    set(pc_PRIVATE "")
    set(pc_STATIC " -lmimalloc -lboost_context -lpthread")
endif()
install(TARGETS ${libraries} EXPORT toolring-targets)
if(TARGET toolring_program)
    install(TARGETS toolring_program)
endif()
install(FILES src/cli/toolring.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)

# The .pc file names the prefix of the installation, known only then (cmake --install --prefix).
# Folders below the prefix stay relative to it, so that the tree can be moved.
foreach(kind LIBDIR INCLUDEDIR)
    if(IS_ABSOLUTE ${CMAKE_INSTALL_${kind}})
        set(pc_${kind} ${CMAKE_INSTALL_${kind}})
    else()
        set(pc_${kind} "\\\${prefix}/${CMAKE_INSTALL_${kind}}")
    endif()
endforeach()
install(CODE "
    set(PROJECT_VERSION ${PROJECT_VERSION})
    set(TR_PC_LIBDIR \"${pc_LIBDIR}\")
    set(TR_PC_INCLUDEDIR \"${pc_INCLUDEDIR}\")
    set(TR_PC_PRIVATE \"${pc_PRIVATE}\")
    set(TR_PC_STATIC \"${pc_STATIC}\")
    configure_file(\"${CMAKE_CURRENT_SOURCE_DIR}/src/toolring.pc.in\"
        \"${CMAKE_CURRENT_BINARY_DIR}/toolring.pc\" @ONLY)")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/toolring.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/toolring)
configure_package_config_file(scripts/cmake/toolring-config.cmake.in toolring-config.cmake
    INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(toolring-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/toolring-config.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/toolring-config-version.cmake DESTINATION ${package_folder})
install(EXPORT toolring-targets NAMESPACE toolring:: DESTINATION ${package_folder})

# What the library is linked to, gathered in the interface target toolring_dependencies.
find_package(PkgConfig REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
pkg_check_modules(LIBURING REQUIRED IMPORTED_TARGET liburing>=2.3)

add_library(toolring_dependencies INTERFACE)
target_link_libraries(toolring_dependencies INTERFACE PkgConfig::LIBURING Threads::Threads)

# mimalloc. Debian ships no .pc file, only the shared library, and that one replaces malloc for the
# whole process it is linked into. We accept it: the library calls mi_* by name and depends on the
# replacement nowhere; a host that minds links a mimalloc built with MI_OVERRIDE=OFF.
if(TR_SANITIZE STREQUAL "off")
    find_path(TR_MIMALLOC_INCLUDE mimalloc.h PATH_SUFFIXES mimalloc-2.1 mimalloc-2.0 REQUIRED)
    find_library(TR_MIMALLOC_LIBRARY NAMES mimalloc REQUIRED)
    file(STRINGS ${TR_MIMALLOC_INCLUDE}/mimalloc.h version_line REGEX "#define MI_MALLOC_VERSION")
    string(REGEX MATCH "[0-9]+" mimalloc_version "${version_line}")
    if(mimalloc_version LESS 200)
        message(FATAL_ERROR "mimalloc >= 2.0 is needed, found ${mimalloc_version}")
    endif()
    target_include_directories(toolring_dependencies SYSTEM INTERFACE ${TR_MIMALLOC_INCLUDE})
    target_link_libraries(toolring_dependencies INTERFACE ${TR_MIMALLOC_LIBRARY})
endif()

# Boost.Context, two assembly symbols of it: make_fcontext and jump_fcontext. The static archive is
# preferred, since the shared one draws the C++ runtime into every process.
find_library(TR_BOOST_CONTEXT_LIBRARY NAMES libboost_context.a boost_context REQUIRED)
target_link_libraries(toolring_dependencies INTERFACE ${TR_BOOST_CONTEXT_LIBRARY})

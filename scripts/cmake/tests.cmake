# One executable per folder of tests/, each linked with tests/support and the static library with
# its internal symbols. Criterion cannot run under ThreadSanitizer: there TR_TEST_PLAIN makes
# tests/support/case.h bring a plain runner, and Criterion is not linked.
file(GLOB test_folders LIST_DIRECTORIES true RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}/tests
    CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/*)
list(REMOVE_ITEM test_folders support packaging contract examples shaken)

add_library(toolring_test_flags INTERFACE)
target_include_directories(toolring_test_flags INTERFACE
    include src tests ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(toolring_test_flags INTERFACE
    toolring_flags toolring_link_flags toolring_static)
if(TR_SANITIZE STREQUAL "thread")
    target_compile_definitions(toolring_test_flags INTERFACE TR_TEST_PLAIN=1)
else()
    pkg_check_modules(CRITERION REQUIRED IMPORTED_TARGET criterion>=2.4)
    target_link_libraries(toolring_test_flags INTERFACE PkgConfig::CRITERION)
endif()

file(GLOB support_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/support/*.c)
if(support_sources)
    add_library(toolring_test_support OBJECT ${support_sources})
    target_link_libraries(toolring_test_support PRIVATE toolring_test_flags)
endif()

foreach(folder IN LISTS test_folders)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/${folder}/*.c)
    if(NOT sources)
        continue()
    endif()
    set(name toolring-tests-${folder})
    add_executable(${name} ${sources})
    if(support_sources)
        target_sources(${name} PRIVATE $<TARGET_OBJECTS:toolring_test_support>)
    endif()
    target_link_libraries(${name} PRIVATE toolring_test_flags toolring_dependencies m)
endforeach()

# Model-checked programs: Relacy (a C++ header library) runs the C headers of parts/ through every
# interleaving it can find. One program per .cpp file; exit status 0 means nothing was found.
if(TR_MODEL)
    enable_language(CXX)
    set(CMAKE_CXX_STANDARD 17)
    set(CMAKE_CXX_STANDARD_REQUIRED ON)
    add_custom_target(toolring-models)
    file(GLOB model_sources CONFIGURE_DEPENDS
        ${CMAKE_CURRENT_SOURCE_DIR}/tests/model/*.cpp
        ${CMAKE_CURRENT_SOURCE_DIR}/tests/concurrency/*.cpp)
    foreach(source IN LISTS model_sources)
        cmake_path(GET source STEM name)
        add_executable(toolring-model-${name} ${source})
        target_include_directories(toolring-model-${name} PRIVATE
            include src tests ${CMAKE_CURRENT_SOURCE_DIR})
        target_compile_definitions(toolring-model-${name} PRIVATE _GNU_SOURCE)
        # Relacy is all templates: compiling costs more than running does.
        target_compile_options(toolring-model-${name} PRIVATE -O1 -g0)
        target_link_libraries(toolring-model-${name} PRIVATE Threads::Threads)
        add_dependencies(toolring-models toolring-model-${name})
    endforeach()
endif()

# The randomised contract test: a program of its own, which replays and shrinks what it finds.
file(GLOB contract_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/contract/*.c)
if(contract_sources)
    add_executable(toolring-contract ${contract_sources})
    target_include_directories(toolring-contract PRIVATE include tests)
    target_link_libraries(toolring-contract PRIVATE
        toolring_static toolring_flags toolring_link_flags toolring_dependencies)
endif()

# Options, and the two interface targets that carry their flags:
#   toolring_flags       how the project's own C is compiled
#   toolring_link_flags  how its executables and shared library are linked

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, RelWithDebInfo or Release" FORCE)
endif()
set(debug_build OFF)
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
    set(debug_build ON)
endif()
set(release_build OFF)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
    set(release_build ON)
endif()

option(TR_WERROR "Warnings are errors" OFF)
option(TR_DEBUG "Deep checks: whole-structure assertions" ${debug_build})
option(TR_LTO "Link-time optimisation" ${release_build})
option(TR_SHARED "Build the shared library too" ON)
option(TR_TESTS "Build the tests" OFF)
option(TR_MODEL "Build the model-checked tests too (needs Relacy)" OFF)
option(TR_PERF "Build the benchmarks" OFF)
option(TR_SHAKE "Threads rest at random between atomic operations: for soak tests" OFF)
set(TR_SANITIZE off CACHE STRING "off, address (with undefined behaviour) or thread")
set_property(CACHE TR_SANITIZE PROPERTY STRINGS off address thread)

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_RELEASE "-O3 -DNDEBUG")

add_library(toolring_flags INTERFACE)
add_library(toolring_link_flags INTERFACE)

target_compile_definitions(toolring_flags INTERFACE _GNU_SOURCE)
target_compile_options(toolring_flags INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
    -Wpointer-arith -Wcast-qual -Wundef -Wvla -Werror=implicit-function-declaration
    -fno-omit-frame-pointer)
if(TR_WERROR)
    target_compile_options(toolring_flags INTERFACE -Werror)
endif()
if(TR_DEBUG)
    target_compile_definitions(toolring_flags INTERFACE TR_DEBUG=1)
endif()

if(TR_SHAKE)
    target_compile_definitions(toolring_flags INTERFACE TR_SHAKE=1)
endif()

# A sanitizer must see every allocation, so mimalloc steps aside; deep checks come with it.
if(TR_SANITIZE STREQUAL "address")
    set(sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(TR_SANITIZE STREQUAL "thread")
    set(sanitize_flags -fsanitize=thread)
elseif(NOT TR_SANITIZE STREQUAL "off")
    message(FATAL_ERROR "TR_SANITIZE is off, address or thread, not ${TR_SANITIZE}")
endif()
if(NOT TR_SANITIZE STREQUAL "off")
    target_compile_definitions(toolring_flags INTERFACE TR_LIBC_MALLOC=1)
    if(NOT TR_DEBUG)
        target_compile_definitions(toolring_flags INTERFACE TR_DEBUG=1)
    endif()
    target_compile_options(toolring_flags INTERFACE ${sanitize_flags})
    target_link_options(toolring_link_flags INTERFACE ${sanitize_flags})
endif()

# The static library must stay usable without the same compiler's LTO plugin, hence fat objects,
# hence gcc only: clang 14 has none.
if(TR_LTO AND CMAKE_C_COMPILER_ID STREQUAL "GNU" AND TR_SANITIZE STREQUAL "off")
    target_compile_options(toolring_flags INTERFACE -flto=auto -ffat-lto-objects)
    target_link_options(toolring_link_flags INTERFACE -flto=auto -O3)
endif()

/**
 * @file version.h
 * Version of the library, and the macros every public header uses.
 */
#ifndef TOOLRING_VERSION_H
#define TOOLRING_VERSION_H

/** Incompatible change. While it is 0, a new minor version may be incompatible too. @since 0.1 */
#define TR_VERSION_MAJOR 0
/** Compatible addition. @since 0.1 */
#define TR_VERSION_MINOR 1
/** Repair without change of the interface. @since 0.1 */
#define TR_VERSION_PATCH 0
/** The three numbers as text, in the form tr_version() returns. @since 0.1 */
#define TR_VERSION_STRING "0.1.0"

/** Marks a symbol of the shared library as public; all others are hidden. @since 0.1 */
#define TR_EXPORT __attribute__((visibility("default")))

/** Open and close a block of C declarations for C++ compilers. @since 0.1 */
#ifdef __cplusplus
#define TR_BEGIN_DECLS extern "C" {
#define TR_END_DECLS }
#else
#define TR_BEGIN_DECLS
#define TR_END_DECLS
#endif

TR_BEGIN_DECLS

/**
 * Version of the library that is loaded, which may differ from the one compiled against
 * (TR_VERSION_STRING).
 * @return "major.minor.patch", never NULL
 * @threads any; never blocks
 * @ownership static text, valid for ever
 * @since 0.1
 */
TR_EXPORT const char *tr_version(void);

TR_END_DECLS

#endif

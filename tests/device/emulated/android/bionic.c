/* What Android's libraries take from libc.so, liblog.so and their like, and glibc has not or has otherwise.
 *
 * One library that stands for all of these. It has to come before glibc for the libraries that are opened by
 * it (RTLD_DEEPBIND), and for nothing else in the process: Java's own machine goes on as it was. Whatever is
 * not here, they take from glibc. The lay-out of types is Linux's, and so the same, but for what is said.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <jni.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* glibc's newest version of a function: one that asks for no version, as all of Android's do, gets the oldest. */
static void *newest(const char *name) {
    static void *glibc;
    if (!glibc) glibc = dlopen("libc.so.6", RTLD_LAZY);
    void *found = dlsym(glibc, name);
    if (!found) abort();
    return found;
}
#define HOST(name) ({ static __typeof__(&name) found; if (!found) found = newest(#name); found; })

/* Java: opens a library as Android would, and lets it announce its methods. */
JNIEXPORT jstring JNICALL
Java_com_facebook_soloader_nativeloader_NativeLoader_open(JNIEnv *env, jclass type, jstring path) {
    (void)type;
    JavaVM *machine;
    jint (*loaded)(JavaVM *, void *);
    const char *name = (*env)->GetStringUTFChars(env, path, NULL);
    void *library = dlopen(name, RTLD_NOW | RTLD_DEEPBIND);
    (*env)->ReleaseStringUTFChars(env, path, name);
    if (!library) return (*env)->NewStringUTF(env, dlerror());
    (*env)->GetJavaVM(env, &machine);
    loaded = dlsym(library, "JNI_OnLoad");
    if (loaded && loaded(machine, NULL) < 0) return (*env)->NewStringUTF(env, "JNI_OnLoad failed");
    return NULL;
}

/* Errors, and what ends a process. */
int *__errno(void) { return &errno; }

char *__gnu_strerror_r(int error, char *text, size_t size) { return HOST(strerror_r)(error, text, size); }

/* glibc has two of this name, by what a program is compiled for; bionic's is POSIX's. */
int __xpg_strerror_r(int error, char *text, size_t size);
int posix_strerror_r(int error, char *text, size_t size) __asm__("strerror_r");
int posix_strerror_r(int error, char *text, size_t size) { return __xpg_strerror_r(error, text, size); }

void __assert2(const char *file, int line, const char *function, const char *failed) {
    fprintf(stderr, "%s:%d: %s: %s is false\n", file, line, function, failed);
    abort();
}

void android_set_abort_message(const char *message) { fprintf(stderr, "%s\n", message); }

/* The log, on the standard error stream. */
int __android_log_vprint(int priority, const char *tag, const char *format, va_list rest) {
    (void)priority;
    char text[1024];
    vsnprintf(text, sizeof text, format, rest);
    return fprintf(stderr, "%s: %s\n", tag, text);
}

int __android_log_print(int priority, const char *tag, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    int written = __android_log_vprint(priority, tag, format, rest);
    va_end(rest);
    return written;
}

int __android_log_write(int priority, const char *tag, const char *text) {
    return __android_log_print(priority, tag, "%s", text);
}

void __android_log_assert(const char *condition, const char *tag, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    __android_log_vprint(0, tag, format ? format : condition, rest);
    va_end(rest);
    abort();
}

/* Of the system. */
int __system_property_get(const char *name, char *value) {
    (void)name;
    value[0] = 0;
    return 0;
}

long sysconf(int name) {
    switch (name) { /* by bionic's numbers */
        case 0x06: return HOST(sysconf)(_SC_CLK_TCK);
        case 0x27:
        case 0x28: return HOST(sysconf)(_SC_PAGESIZE);
        case 0x60: return HOST(sysconf)(_SC_NPROCESSORS_CONF);
        case 0x61: return HOST(sysconf)(_SC_NPROCESSORS_ONLN);
        case 0x62: return HOST(sysconf)(_SC_PHYS_PAGES);
        case 0x63: return HOST(sysconf)(_SC_AVPHYS_PAGES);
        default: errno = EINVAL; return -1;
    }
}

/* Buffers whose size the compiler knew. */
size_t __strlen_chk(const char *text, size_t size) { (void)size; return strlen(text); }
char *__strchr_chk(const char *text, int wanted, size_t size) { (void)size; return strchr(text, wanted); }
char *__strrchr_chk(const char *text, int wanted, size_t size) { (void)size; return strrchr(text, wanted); }

ssize_t __write_chk(int file, const void *bytes, size_t count, size_t size) {
    (void)size;
    return write(file, bytes, count);
}

/* Threads: conditions have two versions in glibc; its mutexes are 48 bytes on arm64, bionic's 40, and of
 * bionic's signal sets, 8 bytes, glibc would fill 128. */
int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m) { return HOST(pthread_cond_wait)(c, m); }
int pthread_cond_signal(pthread_cond_t *c) { return HOST(pthread_cond_signal)(c); }
int pthread_cond_broadcast(pthread_cond_t *c) { return HOST(pthread_cond_broadcast)(c); }
int pthread_cond_destroy(pthread_cond_t *c) { return HOST(pthread_cond_destroy)(c); }

int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until) {
    return HOST(pthread_cond_timedwait)(c, m, until);
}

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *kind) {
    pthread_mutex_t made;
    int error = HOST(pthread_mutex_init)(&made, kind);
    if (!error) memcpy(mutex, &made, 40);
    return error;
}

int sigfillset(sigset_t *set) {
    memset(set, 0xff, 8);
    return 0;
}

/* Standard streams: older interfaces have them as three structures of 152 bytes. Standard output is the
 * channel to whoever started Java, so that what libraries print goes to the error stream too. */
char __sF[3][152];

static FILE *host_stream(FILE *file) {
    char *at = (char *)file;
    if (at == __sF[0]) return stdin;
    return at == __sF[1] || at == __sF[2] || file == stdout ? stderr : file;
}

int fflush(FILE *file) { return HOST(fflush)(host_stream(file)); }
int fclose(FILE *file) { return HOST(fclose)(host_stream(file)); }
int ferror(FILE *file) { return HOST(ferror)(host_stream(file)); }
int getc(FILE *file) { return HOST(getc)(host_stream(file)); }
int ungetc(int byte, FILE *file) { return HOST(ungetc)(byte, host_stream(file)); }
int fputc(int byte, FILE *file) { return HOST(fputc)(byte, host_stream(file)); }
int fputs(const char *text, FILE *file) { return HOST(fputs)(text, host_stream(file)); }
int putchar(int byte) { return fputc(byte, stdout); }

size_t fwrite(const void *items, size_t size, size_t count, FILE *file) {
    return HOST(fwrite)(items, size, count, host_stream(file));
}

int setvbuf(FILE *file, char *buffer, int mode, size_t size) {
    return HOST(setvbuf)(host_stream(file), buffer, mode, size);
}

int vfprintf(FILE *file, const char *format, va_list rest) {
    return HOST(vfprintf)(host_stream(file), format, rest);
}

int fprintf(FILE *file, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    int written = vfprintf(file, format, rest);
    va_end(rest);
    return written;
}

int printf(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    int written = vfprintf(stdout, format, rest);
    va_end(rest);
    return written;
}

/* Loaded into a process (LD_PRELOAD): notes each change that it makes to files below one directory, and
 * kills the process before a chosen one.
 *
 *     RECORD_ROOT     the directory, absolute
 *     RECORD_LOG      where events are appended, as tests/crashes/recording.py reads them
 *     RECORD_CONTROL  a file of two numbers of 64 bits, shared: how many events there were, and how many
 *                     more to let pass before SIGKILL (0: no kill)
 *
 * An event is what a crash may come before or after: a write, a truncation, a sync, a change of names.  It
 * is noted before it is done, with one lock held over both, so the order in the log is that on the disk.
 * What a call did not do although it was noted is taken back by an event that says so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, FAILED };

struct event {
    uint32_t kind, path_length;
    uint64_t ino, offset, length; /* length: of the data, or the second path, that follow the path */
};

struct control {
    uint64_t events, left;
};

#define FILES_MAX 4096
#define TRACKED 1
#define APPENDS 2
#define DIRECTORY 4

static struct {
    uint64_t ino;
    int flags;
} files[FILES_MAX];

static const char *root;
static size_t root_length;
static int log_descriptor = -1;
static struct control *control;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void complain(const char *what)
{
    dprintf(2, "recorder: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void start(void)
{
    const char *log = getenv("RECORD_LOG"), *shared = getenv("RECORD_CONTROL");
    root = getenv("RECORD_ROOT");
    if (!root || !log || !shared)
        return;
    root_length = strlen(root);
    log_descriptor = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int descriptor = syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC);
    if (log_descriptor < 0 || descriptor < 0)
        complain("open");
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (control == MAP_FAILED)
        complain("mmap");
    syscall(SYS_close, descriptor);
}

/* What people read, who has the store, and what is kept in reserve, is no state. */
static int is_recorded(const char *path)
{
    if (log_descriptor < 0 || strncmp(path, root, root_length))
        return 0;
    if (path[root_length] != '/')
        return path[root_length] == 0; /* the directory itself, to be synced */
    const char *name = strrchr(path, '/') + 1;
    return strncmp(name, "LOG", 3) && strncmp(name, "elmer.log", 9) && strcmp(name, "daemon.lock") &&
           strcmp(name, "reserve");
}

static int is_tracked(int descriptor)
{
    return descriptor >= 0 && descriptor < FILES_MAX && files[descriptor].flags & TRACKED;
}

static void note(uint32_t kind, const char *path, uint64_t ino, uint64_t offset, const void *data,
                 uint64_t length)
{
    if (kind != FAILED && control->left && --control->left == 0) {
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
        for (;;)
            pause();
    }
    struct event event = {kind, path ? strlen(path) - root_length - 1 : 0, ino, offset, length};
    struct iovec parts[] = {
        {&event, sizeof event},
        {path ? (char *)path + root_length + 1 : "", event.path_length},
        {(void *)data, length},
    };
    ssize_t whole = sizeof event + event.path_length + length;
    if (syscall(SYS_writev, log_descriptor, parts, 3) != whole)
        complain("writev");
    control->events++;
}

static void note_names(uint32_t kind, const char *path, const char *other)
{
    other += root_length + 1;
    note(kind, path, 0, 0, other, strlen(other));
}

/* Returns `result` unlocked; an event that came to nothing is taken back. */
static long done(long result)
{
    int number = errno;
    if (result < 0)
        note(FAILED, NULL, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = number;
    return result;
}

static uint64_t ino_of(int descriptor, int *is_directory)
{
    struct stat status;
    if (fstat(descriptor, &status))
        complain("fstat");
    *is_directory = S_ISDIR(status.st_mode);
    return status.st_ino;
}

static int open_recorded(const char *path, int flags, mode_t mode)
{
    struct stat status;
    pthread_mutex_lock(&turn);
    int was_there = stat(path, &status) == 0;
    int creates = !was_there && flags & O_CREAT;
    /* To create is noted when the number is known: a crash before that is one before the call. */
    if ((creates || (was_there && flags & O_TRUNC)) && control->left == 1)
        note(CREATE, path, 0, 0, NULL, 0); /* kills */
    int descriptor = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (descriptor >= 0) {
        int is_directory;
        uint64_t ino = ino_of(descriptor, &is_directory);
        if (descriptor >= FILES_MAX)
            complain("too many files");
        files[descriptor].ino = ino;
        files[descriptor].flags = TRACKED | (flags & O_APPEND ? APPENDS : 0) | (is_directory ? DIRECTORY : 0);
        if (creates)
            note(CREATE, path, ino, 0, NULL, 0);
        else if (flags & O_TRUNC)
            note(TRUNCATE, NULL, ino, 0, NULL, 0);
    }
    int number = errno;
    pthread_mutex_unlock(&turn);
    errno = number;
    return descriptor;
}

static int open_any(int directory, const char *path, int flags, mode_t mode)
{
    if (path[0] == '/' && is_recorded(path))
        return open_recorded(path, flags, mode);
    return syscall(SYS_openat, directory, path, flags, mode);
}

#define OPEN(name)                                     \
    int name(const char *path, int flags, ...)         \
    {                                                  \
        va_list rest;                                  \
        va_start(rest, flags);                         \
        mode_t mode = va_arg(rest, mode_t);            \
        va_end(rest);                                  \
        return open_any(AT_FDCWD, path, flags, mode);  \
    }
#define OPENAT(name)                                             \
    int name(int directory, const char *path, int flags, ...)    \
    {                                                            \
        va_list rest;                                            \
        va_start(rest, flags);                                   \
        mode_t mode = va_arg(rest, mode_t);                      \
        va_end(rest);                                            \
        return open_any(directory, path, flags, mode);           \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int descriptor)
{
    if (descriptor >= 0 && descriptor < FILES_MAX)
        files[descriptor].flags = 0;
    return syscall(SYS_close, descriptor);
}

/* A write that is done in part would be noted as whole: the events are of whole ones. */
static ssize_t checked(ssize_t written, size_t length)
{
    if (written >= 0 && (size_t)written != length)
        complain("a write was done in part");
    return written;
}

ssize_t write(int descriptor, const void *data, size_t length)
{
    if (!is_tracked(descriptor))
        return syscall(SYS_write, descriptor, data, length);
    pthread_mutex_lock(&turn);
    int whence = files[descriptor].flags & APPENDS ? SEEK_END : SEEK_CUR;
    note(WRITE, NULL, files[descriptor].ino, lseek(descriptor, 0, whence), data, length);
    return done(checked(syscall(SYS_write, descriptor, data, length), length));
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    if (!is_tracked(descriptor))
        return syscall(SYS_writev, descriptor, parts, count);
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t written = write(descriptor, parts[i].iov_base, parts[i].iov_len);
        if (written < 0)
            return total ? total : written;
        total += written;
    }
    return total;
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset)
{
    if (!is_tracked(descriptor))
        return syscall(SYS_pwrite64, descriptor, data, length, offset);
    pthread_mutex_lock(&turn);
    note(WRITE, NULL, files[descriptor].ino, offset, data, length);
    return done(checked(syscall(SYS_pwrite64, descriptor, data, length, offset), length));
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset)
{
    return pwrite(descriptor, data, length, offset);
}

int ftruncate(int descriptor, off_t size)
{
    if (!is_tracked(descriptor))
        return syscall(SYS_ftruncate, descriptor, size);
    pthread_mutex_lock(&turn);
    note(TRUNCATE, NULL, files[descriptor].ino, size, NULL, 0);
    return done(syscall(SYS_ftruncate, descriptor, size));
}

int ftruncate64(int descriptor, off64_t size)
{
    return ftruncate(descriptor, size);
}

static int synced(int descriptor, long number)
{
    if (!is_tracked(descriptor))
        return syscall(number, descriptor);
    pthread_mutex_lock(&turn);
    note(SYNC, NULL, files[descriptor].ino, files[descriptor].flags & DIRECTORY, NULL, 0);
    return done(syscall(number, descriptor));
}

int fsync(int descriptor)
{
    return synced(descriptor, SYS_fsync);
}

int fdatasync(int descriptor)
{
    return synced(descriptor, SYS_fdatasync);
}

int rename(const char *from, const char *to)
{
    if (!is_recorded(from))
        return syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    pthread_mutex_lock(&turn);
    note_names(RENAME, from, to);
    return done(syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}

int link(const char *from, const char *to)
{
    if (!is_recorded(from))
        return syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&turn);
    note_names(LINK, from, to);
    return done(syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

int unlink(const char *path)
{
    if (!is_recorded(path))
        return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&turn);
    note(UNLINK, path, 0, 0, NULL, 0);
    return done(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

int mkdir(const char *path, mode_t mode)
{
    if (!is_recorded(path))
        return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    pthread_mutex_lock(&turn);
    if (control->left == 1)
        note(MKDIR, path, 0, 0, NULL, 0); /* kills */
    struct stat status = {0};
    int result = syscall(SYS_mkdirat, AT_FDCWD, path, mode), number = errno;
    if (result == 0 && stat(path, &status) == 0)
        note(MKDIR, path, status.st_ino, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    errno = number;
    return result;
}

int rmdir(const char *path)
{
    if (!is_recorded(path))
        return syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
    pthread_mutex_lock(&turn);
    note(RMDIR, path, 0, 0, NULL, 0);
    return done(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}

/*
 * A library between the gateway and its disk (LD_PRELOAD). It does to the files of the database
 * what a test requires: calls that fail, writes that stop half-way, reads that return garbage, and
 * syncs that are slow, that hang, or that fail and lose what they should save.
 *
 * The library also records what a power failure would leave. Beside each file it keeps an image,
 * which only a successful sync changes: it copies what was written since the sync before. What a
 * failed sync should save is lost, as on Linux: the page cache still shows it, a later sync
 * succeeds, and the disk never has it.
 *
 * The library is in C because Rust needs unsafe code for LD_PRELOAD.
 *
 * Environment:
 * FAULTS_CONTROL: a file of 64-bit words (`enum word`, shared with shim.rs)
 * FAULTS_EVENTS: a datagram socket that gets a byte for each change of a counter
 * FAULTS_IMAGES: the folder of the images
 * FAULTS_DATABASE: the path of the database
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum word {
    ARMED, CALLS, FILES, ERROR, PERCENT, SKIP, COUNT, TORN, GARBLED, DELAY_US, HOLD, SEED, LOST,
    SYNCS = 16, HELD, FAULTS, TIMES_SYNCED, WORDS = 32
};
enum call { OPEN = 1, WRITE = 2, SYNC = 4, TRUNCATE = 8, READ = 16 };
enum file { DATABASE = 1, LOG = 2, SHARED = 4, LOCK = 8 };

#define DESCRIPTORS_MAX 4096
/* Garbage begins after the header, so that the file still looks like a database. */
#define HEADER_BYTES 4096

struct range { off_t start; size_t length; };
struct image {
    int descriptor; /* 0: not open yet */
    /* Whether the image has what earlier processes have written, unless that is lost. */
    int is_whole;
    struct range *unsynced;
    size_t count, room;
};

static volatile uint64_t *control;
static int events = -1;
static struct sockaddr_un events_address;
static const char *database, *images;
static unsigned char files[DESCRIPTORS_MAX];
static struct image kept[LOG + 1];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS_CONTROL"), *events_path = getenv("FAULTS_EVENTS");
    database = getenv("FAULTS_DATABASE");
    images = getenv("FAULTS_IMAGES");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0 || !database || !images || !events_path) {
        fputs("libshim: FAULTS_CONTROL, _EVENTS, _IMAGES and _DATABASE must be set\n", stderr);
        abort();
    }
    void *words = mmap(NULL, WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (words == MAP_FAILED) abort();
    close(file);
    events_address.sun_family = AF_UNIX;
    strncpy(events_address.sun_path, events_path, sizeof events_address.sun_path - 1);
    events = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    control = words;
}

static void count(enum word counter)
{
    __atomic_add_fetch(&control[counter], 1, __ATOMIC_SEQ_CST);
    /* If the queue of the socket is full, the test is woken anyway. */
    sendto(events, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&events_address,
           sizeof events_address);
}

static int file_at(const char *path)
{
    size_t length = database ? strlen(database) : 0;
    if (!control || strncmp(path, database, length) != 0) return 0;
    const char *rest = path + length;
    if (!strcmp(rest, "")) return DATABASE;
    if (!strcmp(rest, "-wal")) return LOG;
    if (!strcmp(rest, "-shm")) return SHARED;
    if (!strcmp(rest, ".lock")) return LOCK;
    return 0;
}

static int file_of(int descriptor)
{
    return descriptor >= 0 && descriptor < DESCRIPTORS_MAX ? files[descriptor] : 0;
}

/* Whether this call must fail. */
static int fails(enum call call, int file)
{
    if (!file || !control[ARMED] || !(control[CALLS] & call) || !(control[FILES] & file)) return 0;
    int is_fault = 0;
    pthread_mutex_lock(&lock);
    /* xorshift */
    uint64_t draw = control[SEED];
    draw ^= draw << 13, draw ^= draw >> 7, draw ^= draw << 17;
    control[SEED] = draw;
    if (draw % 100 < control[PERCENT]) {
        if (control[SKIP] > 0) {
            control[SKIP]--;
        } else if (control[COUNT] > 0) {
            control[COUNT]--;
            is_fault = 1;
        }
    }
    pthread_mutex_unlock(&lock);
    return is_fault;
}

static int fail(void)
{
    int error = (int)control[ERROR];
    count(FAULTS);
    errno = error;
    return -1;
}

/* --- The state after a power failure -------------------------------------------------------- */

static void image_path(int file, char *path, size_t room)
{
    snprintf(path, room, "%s/%s%s", images, strrchr(database, '/') + 1, file == LOG ? "-wal" : "");
}

static void copy(int from, int to, off_t start, size_t length)
{
    static __thread char buffer[1 << 16];
    while (length > 0) {
        size_t step = length < sizeof buffer ? length : sizeof buffer;
        ssize_t got = syscall(SYS_pread64, from, buffer, step, start);
        if (got <= 0) return; /* The file was truncated since. */
        if (syscall(SYS_pwrite64, to, buffer, got, start) != got) abort();
        start += got;
        length -= got;
    }
}

static void note_written(int file, off_t start, size_t length)
{
    if (file > LOG) return;
    pthread_mutex_lock(&lock);
    struct image *image = &kept[file];
    if (image->count == image->room) {
        image->room = image->room ? 2 * image->room : 64;
        image->unsynced = realloc(image->unsynced, image->room * sizeof *image->unsynced);
        if (!image->unsynced) abort();
    }
    image->unsynced[image->count++] = (struct range){start, length};
    pthread_mutex_unlock(&lock);
}

static void note_synced(int descriptor, int file, int has_succeeded)
{
    if (file > LOG) return;
    pthread_mutex_lock(&lock);
    struct image *image = &kept[file];
    if (has_succeeded) {
        if (!image->descriptor) {
            char path[4096];
            image_path(file, path, sizeof path);
            image->descriptor = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
            if (image->descriptor < 0) abort();
        }
        /* A sync also saves what other processes have written, unless that is lost already. */
        if (!image->is_whole && !control[LOST]) {
            off_t end = lseek(descriptor, 0, SEEK_END);
            copy(descriptor, image->descriptor, 0, end);
        }
        image->is_whole = 1;
        for (size_t i = 0; i < image->count; i++)
            copy(descriptor, image->descriptor, image->unsynced[i].start, image->unsynced[i].length);
    }
    image->count = 0;
    pthread_mutex_unlock(&lock);
}

/* Names and lengths count as on the disk at once. */
static void note_cut(int file, off_t length)
{
    if (file > LOG) return;
    pthread_mutex_lock(&lock);
    char path[4096];
    image_path(file, path, sizeof path);
    /* The image may not exist yet. */
    if (truncate(path, length) < 0) errno = 0;
    pthread_mutex_unlock(&lock);
}

static void note_removed(int file)
{
    if (file > LOG) return;
    pthread_mutex_lock(&lock);
    struct image *image = &kept[file];
    char path[4096];
    image_path(file, path, sizeof path);
    syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (image->descriptor) syscall(SYS_close, image->descriptor);
    image->descriptor = 0;
    image->is_whole = 0;
    image->count = 0;
    pthread_mutex_unlock(&lock);
}

/* --- The calls of SQLite and of the standard library ---------------------------------------- */

static int open_at(int folder, const char *path, int flags, mode_t mode)
{
    int file = folder == AT_FDCWD ? file_at(path) : 0;
    if (fails(OPEN, file)) {
        /* A read-only file system can still be read. */
        if (control[ERROR] != EROFS || flags & (O_WRONLY | O_RDWR | O_CREAT)) return fail();
    }
    int descriptor = syscall(SYS_openat, folder, path, flags, mode);
    if (descriptor >= 0 && descriptor < DESCRIPTORS_MAX) files[descriptor] = file;
    return descriptor;
}

#define MODE_OF(flags, last)                                  \
    mode_t mode = 0;                                          \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                    \
        va_list rest;                                         \
        va_start(rest, last);                                 \
        mode = va_arg(rest, mode_t);                          \
        va_end(rest);                                         \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags, flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags, flags)
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...)
{
    MODE_OF(flags, flags)
    return open_at(folder, path, flags, mode);
}

int close(int descriptor)
{
    if (file_of(descriptor)) files[descriptor] = 0;
    return syscall(SYS_close, descriptor);
}

ssize_t pread64(int descriptor, void *bytes, size_t length, off_t start)
{
    int file = file_of(descriptor);
    if (!fails(READ, file)) return syscall(SYS_pread64, descriptor, bytes, length, start);
    if (!control[GARBLED]) return fail();
    ssize_t got = syscall(SYS_pread64, descriptor, bytes, length, start);
    if (got > 0 && start >= HEADER_BYTES) {
        memset(bytes, 0xA5, got);
        count(FAULTS);
    }
    return got;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off_t start)
{
    int file = file_of(descriptor);
    int is_fault = fails(WRITE, file);
    if (is_fault && !control[TORN]) return fail();
    ssize_t written = syscall(SYS_pwrite64, descriptor, bytes, is_fault ? length / 2 : length, start);
    if (file && written > 0) note_written(file, start, written);
    return is_fault ? fail() : written;
}

int ftruncate64(int descriptor, off_t length)
{
    int file = file_of(descriptor);
    if (fails(TRUNCATE, file)) return fail();
    int result = syscall(SYS_ftruncate, descriptor, length);
    if (file && result == 0) note_cut(file, length);
    return result;
}

static int sync_with(long number, int descriptor)
{
    int file = file_of(descriptor);
    if (!file) return syscall(number, descriptor);
    if (control[DELAY_US]) usleep(control[DELAY_US]);
    if (control[HOLD]) {
        count(HELD);
        while (control[HOLD]) usleep(500);
    }
    if (fails(SYNC, file)) {
        note_synced(descriptor, file, 0);
        return fail();
    }
    int result = syscall(number, descriptor);
    note_synced(descriptor, file, result == 0);
    count(SYNCS);
    return result;
}

int fsync(int descriptor)
{
    if (file_of(descriptor)) count(TIMES_SYNCED);
    return sync_with(SYS_fsync, descriptor);
}

int fdatasync(int descriptor)
{
    return sync_with(SYS_fdatasync, descriptor);
}

int unlink(const char *path)
{
    int file = file_at(path);
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (file && result == 0) note_removed(file);
    return result;
}

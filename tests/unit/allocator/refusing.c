/* mremap(2) as before Linux 6.17: it refuses a stretch of more than one mapping, after it has unmapped the destination.
 * With REFUSE_EVERY in the environment, also every so many others. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_more_than_one(void *from, size_t size)
{
    /* It cannot grow where it is: not there, or not so. */
    return syscall(SYS_mremap, from, size, size + 65536, 0) < 0 && errno == EFAULT;
}

void *mremap(void *from, size_t size, size_t new_size, int flags, ...)
{
    static unsigned calls;
    va_list rest;
    va_start(rest, flags);
    void *to = va_arg(rest, void *);
    va_end(rest);
    if (flags & MREMAP_FIXED) {
        const char *every = getenv("REFUSE_EVERY");
        if (is_more_than_one(from, size) || (every && calls++ % atoi(every) == 1)) {
            munmap(to, new_size);
            errno = EFAULT;
            return MAP_FAILED;
        }
    }
    return (void *)syscall(SYS_mremap, from, size, new_size, flags, to);
}

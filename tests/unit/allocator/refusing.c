/* mremap(2) as before Linux 6.17: it refuses a stretch of more than one mapping, after it has unmapped the destination.
 * With REFUSE_EVERY in the environment, also every so many others; with REFUSE_AND_TAKE, as if another thread then
 * mapped something of its own at the destination. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned char *taken;
static size_t taken_size;

static int is_more_than_one(void *from, size_t size)
{
    /* Asked to grow where it is, it is refused for that only where it is one. */
    if (syscall(SYS_mremap, from, size, size + 65536, 0) < 0)
        return errno == EFAULT;
    munmap((char *)from + size, 65536);
    return 0;
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
        if (is_more_than_one(from, size) || (every && ++calls % atoi(every) == 0)) {
            munmap(to, new_size);
            if (getenv("REFUSE_AND_TAKE") && !taken) {
                int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
                taken = mmap(to, new_size, PROT_READ | PROT_WRITE, how, -1, 0);
                taken_size = new_size;
                memset(taken, 123, taken_size);
            }
            errno = EFAULT;
            return MAP_FAILED;
        }
    }
    return (void *)syscall(SYS_mremap, from, size, new_size, flags, to);
}

int taken_is_intact(void)
{
    size_t at = 0;
    while (at < taken_size && taken[at] == 123)
        at++;
    return taken && at == taken_size;
}

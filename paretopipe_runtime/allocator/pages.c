/* An allocator for large blocks that keeps freed pages, and never keeps more than were in use at once.
 *
 * A pipeline stage allocates and frees the same activations for every batch. Giving freed blocks back to the kernel
 * costs a page fault and the zeroing of every page, every batch. Keeping them in a heap costs memory: free pieces that
 * lie apart cannot serve a large request, so the heap grows although enough of it is free, and by how much is chance.
 * Here the pages of free pieces are moved together instead: mremap(2) with MREMAP_DONTUNMAP changes page tables and
 * copies nothing. New pages are taken only when all free ones are used up, so what is resident is the peak of what was
 * allocated.
 *
 * Loaded by LD_PRELOAD in front of glibc's malloc ("Replacing malloc" in its manual), which goes on to serve all small
 * blocks, what is allocated by calloc or realloc alone (torch does neither for tensors), and every block where this one
 * cannot.
 *
 * The arena is one mapping, in units of 64 KiB, cut into segments: in use, free (its pages may be there), or empty (no
 * pages). They are a list in order of address; free or empty neighbours of one kind are one segment. One lock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17 */
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* Linux 5.7 */
#endif

/* glibc's functions under the names that nobody replaces. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

#define UNIT ((size_t)64 << 10)
#define LEAST UNIT /* of a block; smaller ones are glibc's */
#define ARENA ((size_t)64 << 30)  /* of addresses, not of memory */
#define UNITS ((uint32_t)(ARENA / UNIT))
_Static_assert(sizeof(size_t) == 8, "the arena needs 64-bit addresses");
#define SEGMENTS 65536u
#define SPARES 1024u /* an allocation takes fewer segments than this */
#define NONE 0u
/* Blocks that all began alike within a page would slow each other down: a load waits for an earlier store whose address
 * ends in the same 12 bits (Intel 64 and IA-32 Optimization Reference Manual, "4-KByte aliasing"). */
#define COLOURS ((size_t)4096)
#define NEXT_COLOUR ((size_t)320)
#define COLOUR_ALIGNMENT ((size_t)64)
/* The kernel has a record for every stretch of pages that belong together, vm.max_map_count of them (65530, proc(5)),
 * also for what others map. At this many the pages stay where they are, and are given back instead of moved. */
#define MOST_BREAKS 16384u

enum kind { EMPTY, FREE, USED };

typedef struct {
    uint32_t start, units;
    uint32_t before, after; /* neighbours by address */
    enum kind kind;
    int is_hole; /* while a place is filled: it was empty */
    size_t size; /* what the caller asked for */
} Segment;

static char *arena; /* NULL: glibc serves all */
static Segment segments[SEGMENTS];
static uint32_t spare[SEGMENTS], spares;
static uint32_t lowest;        /* segment */
static uint32_t owner[UNITS];  /* the first unit of a block -> its segment */
static int32_t moved_by[UNITS]; /* units between a place and that of its pages' first fault; equal neighbours are one mapping */
static uint32_t breaks;        /* between unequal neighbours */
static uint32_t top; /* behind all units that were ever in use */
static size_t colour;
static int is_closed; /* nothing more is served */
static uint64_t live, peak, fresh, moved, dropped; /* bytes */
static uint64_t moves;
static size_t (*usable_size)(void *);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void acquire(void) { pthread_mutex_lock(&lock); }
static void release(void) { pthread_mutex_unlock(&lock); }

static char *address(uint32_t unit) { return arena + (size_t)unit * UNIT; }
static int is_ours(const void *block) { return arena && (size_t)((const char *)block - arena) < ARENA; }
static uint32_t segment_of(const void *block) { return owner[(size_t)((const char *)block - arena) / UNIT]; }

/* ---- pages ---- */

static uint32_t breaks_around(uint32_t start, uint32_t units)
{
    uint32_t found = 0;
    for (uint32_t unit = start ? start : 1; unit <= start + units && unit < UNITS; unit++)
        found += moved_by[unit] != moved_by[unit - 1];
    return found;
}

static void give_back(uint32_t start, uint32_t units)
{
    madvise(address(start), units * UNIT, MADV_DONTNEED);
    dropped += units * UNIT;
}

/* New addresses, at `wanted` or anywhere, without memory behind them. Never huge pages: with one for every touch of 64 KiB
 * far more would be resident than is in use, and moving a part of one splits it. */
static char *map(char *wanted, size_t size, int how)
{
    how |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *mapped = mmap(wanted, size, PROT_READ | PROT_WRITE, how, -1, 0);
    if (mapped != MAP_FAILED)
        madvise(mapped, size, MADV_NOHUGEPAGE);
    return mapped;
}

static void count_as_unmoved(uint32_t start, uint32_t units)
{
    breaks -= breaks_around(start, units);
    memset(moved_by + start, 0, units * sizeof *moved_by);
    breaks += breaks_around(start, units);
}

/* Let the kernel forget where the pages of an empty stretch came from; where it does not, it is many mappings still. */
static void forget_moves(uint32_t start, uint32_t units)
{
    if (map(address(start), units * UNIT, MAP_FIXED) != MAP_FAILED)
        count_as_unmoved(start, units);
}

/* Map a place anew that a failed move may have unmapped. Another thread may have mapped something there meanwhile; then
 * the arena is closed, and stays only for the blocks that it has. */
static void mend(uint32_t start, uint32_t units)
{
    char *mapped = map(address(start), units * UNIT, MAP_FIXED_NOREPLACE);
    if (mapped == address(start)) {
        count_as_unmoved(start, units);
        return;
    }
    if (mapped != MAP_FAILED) /* before Linux 4.17 */
        munmap(mapped, units * UNIT);
    is_closed = 1;
}

/* Move what lies at `from` to an empty place; 0 if it lies there still, or is gone and the place is empty as before.
 *
 * By a detour: the kernel refuses a stretch that is more than one mapping to it (before Linux 6.17), and finds out only
 * after it has unmapped a fixed destination. It never refuses what arrived at a place of its own choice. */
static int move(uint32_t from, uint32_t to, uint32_t units)
{
    size_t size = units * UNIT;
    void *detour = mremap(address(from), size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (detour == MAP_FAILED)
        return 0;
    if (mremap(detour, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, address(to)) == MAP_FAILED) {
        munmap(detour, size);
        mend(to, units);
        return 0;
    }
    int32_t distance = moved_by[from] + (int32_t)from - (int32_t)to;
    breaks -= breaks_around(to, units);
    for (uint32_t unit = to; unit < to + units; unit++)
        moved_by[unit] = distance;
    breaks += breaks_around(to, units);
    moves++;
    moved += size;
    return 1;
}

/* ---- the list of segments ---- */

static void unlink_segment(uint32_t one)
{
    Segment *gone = &segments[one];
    *(gone->before ? &segments[gone->before].after : &lowest) = gone->after;
    if (gone->after)
        segments[gone->after].before = gone->before;
    spare[spares++] = one;
}

/* Cut a segment in two; returns the second, which begins `units` behind the first. */
static uint32_t split(uint32_t one, uint32_t units)
{
    uint32_t two = spare[--spares];
    Segment *first = &segments[one];
    segments[two] = *first;
    segments[two].start += units;
    segments[two].units -= units;
    segments[two].before = one;
    first->units = units;
    first->after = two;
    if (segments[two].after)
        segments[segments[two].after].before = two;
    return two;
}

/* Make a segment one with those neighbours that are of its kind; returns what it is now part of. */
static uint32_t join(uint32_t one)
{
    uint32_t before = segments[one].before, after = segments[one].after;
    if (after && segments[after].kind == segments[one].kind) {
        segments[one].units += segments[after].units;
        unlink_segment(after);
    }
    if (before && segments[before].kind == segments[one].kind) {
        segments[before].units += segments[one].units;
        unlink_segment(one);
        return before;
    }
    return one;
}

/* ---- allocation ---- */

static uint32_t smallest_free(uint32_t units)
{
    uint32_t best = NONE;
    for (uint32_t one = lowest; one; one = segments[one].after) {
        const Segment *segment = &segments[one];
        if (segment->kind == FREE && segment->units >= units && (!best || segment->units < segments[best].units))
            best = one;
    }
    return best;
}

static uint32_t largest_free(void)
{
    uint32_t best = NONE;
    for (uint32_t one = lowest; one; one = segments[one].after)
        if (segments[one].kind == FREE && (!best || segments[one].units > segments[best].units))
            best = one;
    return best;
}

/* The segment with which a place of `units` begins, none of them in use, where the most free ones lie already. */
static uint32_t best_place(uint32_t units)
{
    uint32_t best = NONE, most = 0;
    for (uint32_t one = lowest; one; one = segments[one].after) {
        if (segments[one].kind == USED)
            continue;
        uint32_t missing = units, held = 0;
        for (uint32_t next = one; next && missing && segments[next].kind != USED; next = segments[next].after) {
            uint32_t part = segments[next].units < missing ? segments[next].units : missing;
            held += segments[next].kind == FREE ? part : 0;
            missing -= part;
        }
        if (!missing && (!best || held > most)) {
            best = one;
            most = held;
        }
    }
    return best;
}

/* Fill an empty segment with pages of free ones; what they have too few of is new when it is touched. */
static void fill(uint32_t hole)
{
    uint32_t to = segments[hole].start, missing = segments[hole].units, source;
    while (missing && spares && !is_closed && (source = largest_free())) {
        uint32_t from = segments[source].start, limit = segments[source].units, units = 1;
        limit = limit < missing ? limit : missing;
        while (units < limit && moved_by[from + units] == moved_by[from])
            units++;
        if (breaks >= MOST_BREAKS || !move(from, to, units)) {
            /* Of more than one mapping, perhaps: half of it may be of one. */
            if (units > 1 && breaks < MOST_BREAKS && !is_closed && move(from, to, units / 2)) {
                units /= 2;
            } else {
                give_back(from, units);
                fresh += units * UNIT;
            }
        }
        if (units < segments[source].units)
            split(source, units);
        segments[source].kind = EMPTY;
        join(source);
        to += units;
        missing -= units;
    }
    fresh += missing * UNIT;
}

/* Bring pages to the place of `units` that begins with segment `one`, and make it one segment in use. */
static void gather(uint32_t one, uint32_t units)
{
    uint32_t end = segments[one].start + units, next = one;
    /* First all that lies here is put out of reach; then what is empty is filled from elsewhere. */
    for (;; next = segments[next].after) {
        Segment *part = &segments[next];
        if (part->start + part->units > end)
            split(next, end - part->start);
        part->is_hole = part->kind == EMPTY;
        part->kind = USED;
        if (part->start + part->units == end)
            break;
    }
    for (next = one; next && segments[next].start < end; next = segments[next].after)
        if (segments[next].is_hole)
            fill(next);
    while (segments[one].units < units) {
        uint32_t part = segments[one].after;
        segments[one].units += segments[part].units;
        unlink_segment(part);
    }
}

static void *allocate(size_t alignment, size_t size)
{
    if (!arena || is_closed || size >= ARENA || alignment > COLOURS || spares < SPARES)
        return NULL;
    uint32_t units = (uint32_t)((size + COLOURS + UNIT - 1) / UNIT);
    uint32_t one = smallest_free(units);
    if (one) {
        if (segments[one].units > units)
            split(one, units);
    } else {
        one = best_place(units);
        if (!one)
            return NULL;
        gather(one, units);
        if (is_closed) /* the place stays out of use */
            return NULL;
    }
    uint32_t place = segments[one].start;
    segments[one].kind = USED;
    segments[one].size = size;
    char *block = address(place);
    if (alignment <= COLOUR_ALIGNMENT) {
        block += colour;
        colour = (colour + NEXT_COLOUR) % COLOURS;
    }
    owner[place] = one;
    top = place + units > top ? place + units : top;
    live += units * UNIT;
    peak = live > peak ? live : peak;
    return block;
}

static void *allocate_locked(size_t alignment, size_t size)
{
    int saved = errno;
    acquire();
    void *block = allocate(alignment, size);
    release();
    errno = saved;
    return block;
}

static void free_locked(void *block)
{
    acquire();
    uint32_t one = segment_of(block);
    live -= segments[one].units * UNIT;
    segments[one].kind = FREE;
    join(one);
    release();
}

/* ---- what a process calls ---- */

size_t malloc_usable_size(void *block);

/* Whether a move leaves both places usable, also for system calls: qemu-user (7.2) takes the first for unmapped. */
static int can_move(void)
{
    int ends[2], works = 0;
    if (pipe(ends))
        return 0;
    if (move(0, 1, 1))
        works = write(ends[1], "12", 2) == 2 && read(ends[0], address(0), 1) == 1 && read(ends[0], address(1), 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return works;
}

__attribute__((constructor)) static void start(void)
{
    int saved = errno;
    void *symbol = dlsym(RTLD_NEXT, "malloc_usable_size");
    memcpy(&usable_size, &symbol, sizeof symbol);
    /* Only addresses: where the kernel insists on memory behind them (strict overcommit), glibc serves all. */
    char *mapped = map(NULL, ARENA + UNIT, 0);
    if (mapped != MAP_FAILED) {
        arena = (char *)(((uintptr_t)mapped + UNIT - 1) / UNIT * UNIT);
        if (can_move()) {
            forget_moves(0, 2);
            moves = moved = 0;
            for (uint32_t one = SEGMENTS - 1; one > 1; one--)
                spare[spares++] = one;
            lowest = 1;
            segments[lowest].units = UNITS;
            pthread_atfork(acquire, release, release);
        } else { /* an older kernel */
            munmap(mapped, ARENA + UNIT);
            arena = NULL;
        }
    }
    errno = saved;
}

void *malloc(size_t size)
{
    void *block = size < LEAST ? NULL : allocate_locked(1, size);
    return block ? block : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) { return __libc_calloc(count, size); }

void free(void *block)
{
    if (is_ours(block))
        free_locked(block);
    else
        __libc_free(block);
}

void *realloc(void *block, size_t size)
{
    if (!is_ours(block))
        return __libc_realloc(block, size);
    if (!size) {
        free_locked(block);
        return NULL;
    }
    size_t old = malloc_usable_size(block);
    void *moved_to = malloc(size);
    if (moved_to) {
        memcpy(moved_to, block, old < size ? old : size);
        free_locked(block);
    }
    return moved_to;
}

void *memalign(size_t alignment, size_t size)
{
    void *block = size < LEAST ? NULL : allocate_locked(alignment, size);
    return block ? block : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (!alignment || alignment % sizeof(void *) || alignment & (alignment - 1))
        return EINVAL;
    int saved = errno;
    void *block = memalign(alignment, size);
    errno = saved;
    if (!block)
        return ENOMEM;
    *out = block;
    return 0;
}

size_t malloc_usable_size(void *block)
{
    if (!is_ours(block))
        return block ? usable_size(block) : 0;
    acquire();
    size_t size = segments[segment_of(block)].size;
    release();
    return size;
}

/* Give all free pages back to the kernel, and count the peak anew. */
void paretopipe_trim_pages(void)
{
    acquire();
    for (uint32_t one = lowest; one; one = segments[one].after) {
        if (segments[one].kind == FREE) {
            give_back(segments[one].start, segments[one].units);
            segments[one].kind = EMPTY;
            one = join(one);
        }
    }
    for (uint32_t one = lowest; one && segments[one].start < top; one = segments[one].after) {
        uint32_t start = segments[one].start, units = segments[one].units;
        units = units < top - start ? units : top - start;
        if (segments[one].kind == EMPTY && breaks_around(start, units))
            forget_moves(start, units);
    }
    peak = live;
    release();
}

/* Bytes live, their peak, new, moved and given back; moves; mappings. 0 where glibc serves all. */
int paretopipe_pages(uint64_t figures[7])
{
    acquire();
    uint64_t found[7] = {live, peak, fresh, moved, dropped, moves, breaks + 1};
    release();
    memcpy(figures, found, sizeof found);
    return arena != NULL;
}

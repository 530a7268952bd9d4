// Sixteen small programs in one. Each does a fixed amount of work and prints "WORKLOAD name checksum", the same on each
// processor, emulated or not, that is right. The last line is "WORKLOADS DONE". Build: gcc -O2 -static -pthread … -lm
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9E3779B97F4A7C15;
    return hash ^ hash >> 29;
}

static uint64_t bits(double value)
{
    uint64_t its;
    memcpy(&its, &value, sizeof its);
    return its;
}

static uint64_t state;
static uint64_t next(void)                                         // xorshift64
{
    state ^= state << 13, state ^= state >> 7;
    return state ^= state << 17;
}

// Whole numbers

static uint64_t divide(void)                                       // greatest common divisors; 64- and 128-bit products
{
    uint64_t hash = 0;
    for (int i = 0; i < 4000; i++) {
        uint64_t a = next(), b = next(), product = (unsigned __int128)a * b >> 64;
        while (b) { uint64_t rest = a % b; a = b; b = rest; }
        hash = mix(hash, a + product);
    }
    return hash;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t sort(void)
{
    enum { Count = 8000 };
    static uint64_t values[Count];
    uint64_t hash = 0;
    for (int i = 0; i < Count; i++) values[i] = next();
    qsort(values, Count, sizeof *values, ascending);
    for (int i = 0; i < Count; i++) hash = mix(hash, values[i]);
    return hash;
}

static uint64_t crc(void)                                          // CRC-32 bit by bit
{
    uint32_t crc = ~0u;
    for (int i = 0; i < 30000; i++) {
        crc ^= (uint8_t)next();
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

static uint64_t branches(void)                                     // indirect jumps, as an interpreter has them
{
    uint64_t a = 1, b = 2;
    for (int i = 0; i < 150000; i++)
        switch (next() & 7) {
        case 0: a += b; break;
        case 1: b ^= a; break;
        case 2: a = a << 7 | a >> 57; break;
        case 3: b -= a >> 3; break;
        case 4: a *= 31; break;
        case 5: b = __builtin_bswap64(b); break;
        case 6: a ^= (uint64_t)__builtin_popcountll(b); break;
        default: b = b >> 1 | b << 63;
        }
    return a ^ b;
}

static uint64_t __attribute__((noinline)) ackermann(uint64_t m, uint64_t n)
{
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

static uint64_t calls(void) { return ackermann(2, 300) + ackermann(3, 5); }

// Floating point: nothing but what IEEE 754 defines to the last bit

static uint64_t nbody(void)                                        // scalar double
{
    enum { Bodies = 5 };
    double at[Bodies][3] = {{0}, {4.84, -1.16, -.1}, {8.34, 4.12, -.4}, {12.9, -15.1, -.22}, {15.4, -25.9, .18}};
    double speed[Bodies][3] = {{0}, {.6, 2.8, -.02}, {-1.01, 1.8, .008}, {1.08, .86, -.01}, {.97, .59, -.03}};
    double mass[Bodies] = {39.5, .038, .011, .0017, .002};
    uint64_t hash = 0;
    for (int step = 0; step < 1500; step++) {
        for (int i = 0; i < Bodies; i++)
            for (int j = i + 1; j < Bodies; j++) {
                double apart[3], square = 0;
                for (int k = 0; k < 3; k++) apart[k] = at[i][k] - at[j][k], square += apart[k] * apart[k];
                double pull = .001 / (square * sqrt(square));
                for (int k = 0; k < 3; k++) {
                    speed[i][k] -= apart[k] * mass[j] * pull;
                    speed[j][k] += apart[k] * mass[i] * pull;
                }
            }
        for (int i = 0; i < Bodies; i++)
            for (int k = 0; k < 3; k++) at[i][k] += .001 * speed[i][k];
    }
    for (int i = 0; i < Bodies; i++) hash = mix(hash, bits(at[i][i % 3]));
    return hash;
}

static uint64_t __attribute__((optimize("O3"))) matrices(void)     // packed float
{
    enum { Size = 48 };
    static float a[Size][Size], b[Size][Size], c[Size][Size];
    uint64_t hash = 0;
    for (int i = 0; i < Size; i++)
        for (int j = 0; j < Size; j++) a[i][j] = (float)(next() % 1000) / 7, b[i][j] = (float)(next() % 1000) / 11;
    for (int i = 0; i < Size; i++)
        for (int k = 0; k < Size; k++)
            for (int j = 0; j < Size; j++) c[i][j] += a[i][k] * b[k][j];
    for (int i = 0; i < Size; i++)
        for (int j = 0; j < Size; j++) hash = mix(hash, bits(c[i][j]));
    return hash;
}

static uint64_t x87(void)                                          // 80 bits
{
    volatile long double sum = 1;
    for (int i = 1; i < 8000; i++) sum = sqrtl(sum * i + 1.0L / i) + (long double)(i & 15) / 3;
    uint64_t mantissa;
    memcpy(&mantissa, (const void *)&sum, sizeof mantissa);
    return mantissa;
}

// Memory

static uint64_t copy(void)                                         // the C library's copies, and string instructions
{
    enum { Size = 1 << 16 };
    static unsigned char from[Size + 64], to[Size + 64];
    uint64_t hash = 0;
    for (int i = 0; i < Size; i++) from[i] = (unsigned char)(i * 7 + (i >> 8));
    for (int i = 0; i < 24; i++) {
        void *source = from + i, *target = to + i % 7;
        size_t count = (size_t)(Size - 100 * i);
        if (i & 1) memcpy(target, source, count);
        else __asm__ volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(count) : : "memory");
        memmove(to + 33, to + i, Size / 2);
        hash = mix(hash, to[i * 2001] + strlen((char *)from + 1 + i) + (memcmp(from, from + 256 * i, 5000) < 0));
    }
    for (int i = 0; i < Size; i++) hash = mix(hash, to[i]);
    return hash;
}

static uint64_t chase(void)                                        // each address comes from the load before
{
    enum { Count = 1 << 16 };
    struct { uint32_t next; char padding[60]; } *nodes = malloc(sizeof *nodes * Count);
    uint64_t hash = 0;
    for (uint32_t i = 0; i < Count; i++) nodes[i].next = (i * 747796405u + 2891336453u) % Count; // one cycle
    uint32_t at = 0;
    for (int i = 0; i < 2 * Count; i++) hash += at * (uint64_t)i, at = nodes[at].next;
    free(nodes);
    return mix(hash, at);
}

// The kernel

static uint64_t syscalls(void)                                     // a file in memory, written and read in odd pieces
{
    int file = memfd_create("workload", 0);
    uint64_t hash = 0;
    for (int i = 0; i < 1500; i++) {
        uint64_t value = next(), back = 0;
        if (pwrite(file, &value, sizeof value, (off_t)(value % 50000)) != sizeof value) return 1;
        if (pread(file, &back, sizeof back, (off_t)(next() % 40000)) < 0) return 2;
        hash = mix(hash, back);
    }
    close(file);
    return hash;
}

static uint64_t pipes(void)                                        // two processes take turns
{
    int there[2], back[2];
    uint64_t value = 1;
    if (pipe(there) || pipe(back)) return 1;
    pid_t child = fork();
    if (!child) {
        for (int i = 0; i < 500; i++) {
            if (read(there[0], &value, sizeof value) != sizeof value) _exit(1);
            value = mix(value, (uint64_t)i);
            if (write(back[1], &value, sizeof value) != sizeof value) _exit(2);
        }
        _exit(0);
    }
    for (int i = 0; i < 500; i++)
        if (write(there[1], &value, sizeof value) != sizeof value
            || read(back[0], &value, sizeof value) != sizeof value) return 2;
    int status;
    waitpid(child, &status, 0);
    return mix(value, (uint64_t)status);
}

static uint64_t forks(void)                                        // each child changes its copy of a page
{
    static volatile unsigned char page[4096];
    uint64_t hash = 0;
    for (int i = 0; i < 25; i++) {
        pid_t child = fork();
        if (!child) {
            page[i]++;
            _exit((page[i] + i * 3) & 127);
        }
        int status;
        waitpid(child, &status, 0);
        hash = mix(hash, (uint64_t)WEXITSTATUS(status) + page[i]);
    }
    return hash;
}

static uint64_t faults(void)                                       // pages come, are protected, go, come back empty
{
    enum { Size = 2 << 20, Page = 4096 };
    uint64_t hash = 0;
    for (int round = 0; round < 3; round++) {
        unsigned char *at = mmap(0, Size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < Size; i += Page) at[i] = (unsigned char)(i / Page + round);
        mprotect(at, Size / 2, PROT_READ);
        madvise(at + Size / 2, Size / 4, MADV_DONTNEED);
        for (int i = 0; i < Size; i += Page) hash = mix(hash, at[i]);
        munmap(at, Size);
    }
    return hash;
}

// Processors

static atomic_ulong counter, maximum;
static void *count(void *from)
{
    for (unsigned long i = 0; i < 15000; i++) {
        atomic_fetch_add(&counter, i);
        unsigned long value = (unsigned long)from * 15000 + i, seen = atomic_load(&maximum);
        while (seen < value && !atomic_compare_exchange_weak(&maximum, &seen, value)) { }
    }
    return 0;
}

static uint64_t atomics(void)
{
    pthread_t threads[3];
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], 0, count, (void *)i);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    return mix(counter, maximum);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turn;
static uint64_t shared = 1;
static void *take_turns(void *mine)
{
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        while (turn != (int)(long)mine) pthread_cond_wait(&turned, &lock);
        shared = mix(shared, (uint64_t)(long)mine);
        turn = (turn + 1) % 3;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&lock);
    }
    return 0;
}

static uint64_t threads(void)
{
    pthread_t threads[3];
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], 0, take_turns, (void *)i);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    return shared;
}

int main(void)
{
    static const struct { const char *name; uint64_t (*run)(void); } all[] = {
        {"divide", divide}, {"sort", sort}, {"crc", crc}, {"branches", branches}, {"calls", calls},
        {"nbody", nbody}, {"matrices", matrices}, {"x87", x87}, {"copy", copy}, {"chase", chase},
        {"syscalls", syscalls}, {"pipes", pipes}, {"forks", forks}, {"faults", faults},
        {"atomics", atomics}, {"threads", threads},
    };
    setvbuf(stdout, 0, _IOLBF, 0);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        state = 0x123456789ABCDEF;
        printf("WORKLOAD %s %016llx\n", all[i].name, (unsigned long long)all[i].run());
    }
    puts("WORKLOADS DONE");
}

/* A line between two network namespaces: so much delay, so many bits a second, a queue that drops its tail,
 * and packets lost by chance.
 *
 *     line BITS_PER_SECOND ONE_WAY_MICROSECONDS QUEUE_BYTES LOSS_PER_MILLION SEED
 *
 * Makes the tun device `far` in the namespace it was started in, then a namespace of its own (reached through
 * /proc/PID/ns/net) with the tun device `near`, says "ready", and carries IP packets between the two, the same
 * in both directions. A packet waits until those before it are sent (or is dropped where the queue is full),
 * takes its size's time to send, and then the way. The rate counts IP packets, without the frames round them.
 *
 * Each line on standard input is answered by one line of JSON with what was carried, dropped and lost so far;
 * at the end of input the program ends, and devices and namespace are gone with it. Needs root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    LARGEST = 2048,        /* bytes of a packet; the devices' MTU is 1500 */
    SLOTS = 1 << 15,       /* packets under way in one direction: 0.3 s of full ones at 1 Gbit/s */
    BURST = 64,            /* packets read from one device before the other has its turn */
    QUANTUM_NS = 100000,   /* how late a packet may be: as a network card that gathers interrupts */
};

struct packet {
    int64_t due; /* when it comes out at the other end */
    uint16_t size;
    char bytes[LARGEST];
};

/* One direction: from a device, through the line, to the other device. */
struct way {
    const char *name;
    int from, to;
    struct packet *slots;
    uint64_t first, end; /* the packets under way are first … end-1, modulo SLOTS */
    int64_t free_at;     /* when the last packet that was let in will have been sent */
    uint64_t packets, bytes, dropped, lost, refused;
};

static double bits_per_second;
static int64_t delay_ns, queue_ns;
static uint64_t loss_per_million, chance;

static void fail(const char *what) {
    fprintf(stderr, "line: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* xorshift64*: the same losses at the same packets for the same seed. */
static uint64_t next_chance(void) {
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return chance * 0x2545F4914F6CDD1DULL;
}

static int open_tun(const char *name) {
    struct ifreq request = {0};
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0) fail("/dev/net/tun");
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(device, TUNSETIFF, &request) < 0) fail(name);
    return device;
}

/* Take what waits at the sender's device. Returns whether anything did. */
static int take(struct way *way, int64_t now) {
    int taken = 0;
    for (; taken < BURST; taken++) {
        struct packet *packet = &way->slots[way->end % SLOTS];
        ssize_t size = read(way->from, packet->bytes, LARGEST);
        if (size < 0) {
            if (errno == EAGAIN || errno == EINTR || errno == EIO) break; /* EIO: not up yet, or taken down */
            fail("read");
        }
        int64_t start = way->free_at > now ? way->free_at : now;
        if (start - now > queue_ns || way->end - way->first == SLOTS - 1) {
            way->dropped++;
            continue;
        }
        way->free_at = start + (int64_t)(size * 8 * 1e9 / bits_per_second);
        /* A lost packet has taken its time to send all the same. */
        if (next_chance() % 1000000 < loss_per_million) {
            way->lost++;
            continue;
        }
        packet->size = (uint16_t)size;
        packet->due = way->free_at + delay_ns;
        way->end++;
    }
    return taken > 0;
}

/* Hand out what has arrived. */
static void give(struct way *way, int64_t now) {
    for (; way->first < way->end; way->first++) {
        struct packet *packet = &way->slots[way->first % SLOTS];
        if (packet->due > now) return;
        if (write(way->to, packet->bytes, packet->size) == packet->size) {
            way->packets++;
            way->bytes += packet->size;
        } else {
            way->refused++;
        }
    }
}

static void tell(const struct way *ways) {
    printf("{");
    for (int i = 0; i < 2; i++) {
        const struct way *way = &ways[i];
        printf("%s\"%s\": {\"packets\": %ju, \"bytes\": %ju, \"dropped\": %ju, \"lost\": %ju, \"refused\": %ju}",
               i ? ", " : "", way->name, (uintmax_t)way->packets, (uintmax_t)way->bytes,
               (uintmax_t)way->dropped, (uintmax_t)way->lost, (uintmax_t)way->refused);
    }
    printf("}\n");
    fflush(stdout);
}

static void sleep_ns(int64_t span) {
    struct timespec length = {span / 1000000000, span % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &length, NULL);
}

int main(int count, char **given) {
    if (count != 6) {
        fprintf(stderr, "usage: line BITS_PER_SECOND ONE_WAY_MICROSECONDS QUEUE_BYTES LOSS_PER_MILLION SEED\n");
        return 2;
    }
    bits_per_second = atof(given[1]);
    delay_ns = atoll(given[2]) * 1000;
    queue_ns = (int64_t)(atof(given[3]) * 8 * 1e9 / bits_per_second);
    loss_per_million = strtoull(given[4], NULL, 10);
    chance = strtoull(given[5], NULL, 10) * 2 + 1; /* never 0 */

    struct way ways[2] = {{.name = "to_near"}, {.name = "to_far"}};
    int far = open_tun("far");
    if (unshare(CLONE_NEWNET) < 0) fail("a network namespace of its own");
    int near = open_tun("near");
    ways[0].from = ways[1].to = far;
    ways[0].to = ways[1].from = near;
    for (int i = 0; i < 2; i++) {
        ways[i].slots = malloc(sizeof(struct packet) * SLOTS);
        if (!ways[i].slots) fail("memory");
        memset(ways[i].slots, 0, sizeof(struct packet) * SLOTS); /* no page faults later */
    }
    prctl(PR_SET_TIMERSLACK, 1000);
    /* A line does not wait for the processor, however busy its ends are. */
    struct sched_param priority = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR, &priority) < 0) fail("real-time priority");
    puts("ready");
    fflush(stdout);

    struct pollfd watched[3] = {{far, POLLIN, 0}, {near, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (;;) {
        int64_t next = INT64_MAX, now = now_ns();
        int busy = 0;
        for (int i = 0; i < 2; i++) {
            busy |= take(&ways[i], now);
            give(&ways[i], now);
            if (ways[i].first < ways[i].end && ways[i].slots[ways[i].first % SLOTS].due < next)
                next = ways[i].slots[ways[i].first % SLOTS].due;
        }
        int64_t wait = busy ? 0 : next == INT64_MAX ? 1000000000 : next - now;
        /* Never awake for one packet after the other. */
        if (wait < QUANTUM_NS) sleep_ns(QUANTUM_NS);
        struct timespec limit = {0};
        if (wait > QUANTUM_NS) limit = (struct timespec){wait / 1000000000, wait % 1000000000};
        if (ppoll(watched, 3, &limit, NULL) > 0 && watched[2].revents) {
            char asked[64];
            if (read(STDIN_FILENO, asked, sizeof asked) <= 0) return 0;
            tell(ways);
        }
    }
}

/* A Fabric Manager's client library that plays what the environment says.
 *
 * Layouts are written down here a second time, from the public description of the interface, so
 * that a mistake in the collector's shows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct connect_v1 {
    unsigned version;
    char address[256];
    unsigned timeout_ms;
    unsigned is_unix;
};

struct gpu {
    unsigned physical_id;
    char uuid[80];
    char pci_bus_id[32];
    unsigned links, max_links, rate;
};

struct partition {
    unsigned id, active, gpus;
    struct gpu gpu[16];
};

struct list {
    unsigned version, partitions, max_partitions;
    struct partition partition[64];
};

static int number(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

int fmLibInit(void) {
    if (number("FAKE_HANG")) sleep(60);
    if (number("FAKE_CRASH")) abort();
    return number("FAKE_INIT");
}

int fmLibShutdown(void) { return 0; }

int fmConnect(void *given, void **handle) {
    struct connect_v1 *parameters = given;
    unsigned v1 = sizeof(struct connect_v1) | 1u << 24;
    unsigned v2 = (sizeof(struct connect_v1) + 4) | 2u << 24;
    if (parameters->version != v1 && parameters->version != v2) return -6;
    if (number("FAKE_OLD") && parameters->version != v1) return -6;
    if (parameters->version == v2) {
        unsigned type = *(unsigned *)((char *)given + sizeof(struct connect_v1));
        if (type != (parameters->is_unix ? 2u : 1u)) return -1;
    }
    fprintf(stderr, "%s %u %u\n", parameters->address, parameters->is_unix,
            parameters->timeout_ms);
    *handle = (void *)0x1234;
    return number("FAKE_CONNECT");
}

int fmDisconnect(void *handle) { return handle == (void *)0x1234 ? 0 : -1; }

int fmGetSupportedFabricPartitions(void *handle, struct list *list) {
    if (handle != (void *)0x1234) return -1;
    if (list->version != (sizeof(struct list) | 1u << 24)) return -6;
    if (number("FAKE_LIST")) return number("FAKE_LIST");
    int many = number("FAKE_MANY");
    list->partitions = many ? 4000000000u : 2;
    list->max_partitions = 64;
    for (unsigned at = 0; at < (many ? 64u : 2u); at++) {
        struct partition *one = &list->partition[at];
        one->id = at + 1;
        one->active = at == 1;
        one->gpus = many ? 4000000000u : 2;
        for (unsigned gpu = 0; gpu < (many ? 16u : 2u); gpu++) {
            one->gpu[gpu].physical_id = 2 * at + gpu + 1;
            one->gpu[gpu].links = 18;
            one->gpu[gpu].max_links = 18;
            one->gpu[gpu].rate = 53125;
            memset(one->gpu[gpu].uuid, many ? 0xff : 0, 80);
        }
    }
    return 0;
}

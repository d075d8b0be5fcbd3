/* A driver library with the calls of libnvidia-ml.so.1 that ccverify makes.  What it plays is in
 * the environment (FAKE_…), read at each call.  -DOLD leaves out what drivers before 550 lack.
 * Layouts are written out here, not taken from the code under test. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOT_SUPPORTED 3
#define INVALID_ARGUMENT 2
#define VERSION_MISMATCH 25

static long option(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value && *value ? strtol(value, 0, 0) : otherwise;
}

typedef struct { long index; } device;
static device devices[64];

static void text(char *out, unsigned size, const char *value) {
    snprintf(out, size, "%s", value);
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return (int)option("FAKE_INIT", 0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "an error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    if (option("FAKE_BAD_TEXT", 0)) { memcpy(out, "\xff\xfe", 3); return 0; }
    text(out, size, "580.95.05");
    return 0;
}
int nvmlSystemGetNVMLVersion(char *out, unsigned size) { text(out, size, "13.580.95.05"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = (unsigned)option("FAKE_GPUS", 2);
    return (int)option("FAKE_COUNT", 0);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **out) {
    if (option("FAKE_LOST", -1) == (long)index) return 15;
    devices[index].index = index;
    *out = &devices[index];
    return 0;
}

/* --- confidential computing --- */
typedef struct { unsigned environment, feature, devtools; } cc_state;
int nvmlSystemGetConfComputeState(cc_state *s) {
    s->environment = 2; s->feature = (unsigned)option("FAKE_CC", 1); s->devtools = 0;
    return (int)option("FAKE_STATE", 0);
}
typedef struct { unsigned cpu, gpus; } cc_caps;
int nvmlSystemGetConfComputeCapabilities(cc_caps *c) { c->cpu = 2; c->gpus = 1; return 0; }
int nvmlSystemGetConfComputeGpusReadyState(unsigned *ready) { *ready = 1; return 0; }
#ifndef OLD
typedef struct { unsigned version, environment, feature, devtools, multi; } cc_settings;
int nvmlSystemGetConfComputeSettings(cc_settings *s) {
    if (s->version != 0x1000014) return VERSION_MISMATCH;
    s->environment = 2; s->feature = (unsigned)option("FAKE_CC", 1); s->devtools = 0;
    s->multi = (unsigned)option("FAKE_MULTI", 0);
    return (int)option("FAKE_SETTINGS", 0);
}
#endif
typedef struct {
    unsigned has_cec, size, cec_size;
    uint8_t nonce[32], report[8192], cec[4096];
} report;
int nvmlDeviceGetConfComputeGpuAttestationReport(device *d, report *r) {
    if (option("FAKE_REFUSES", -1) == d->index) return 4;
    if (option("FAKE_SLOW", -1) == d->index) usleep((useconds_t)option("FAKE_SLOW_MS", 0) * 1000);
    if (option("FAKE_EACH_MS", 0)) usleep((useconds_t)option("FAKE_EACH_MS", 0) * 1000);
    memset(r->report, 0xA0 + (int)d->index, sizeof r->report);
    memcpy(r->report, "\x11\xe0\x01\xff", 4);
    memcpy(r->report + 4, r->nonce, 32);
    if (option("FAKE_NONCE", -1) == d->index) r->report[20] ^= 1;
    if (option("FAKE_HEADER", -1) == d->index) r->report[1] = 0xE1;
    r->report[36] = 0;
    r->size = (unsigned)option("FAKE_SIZE", 4117);
    return 0;
}
typedef struct {
    unsigned size, attestation_size;
    uint8_t chain[4096], attestation[5120];
} certificate;
int nvmlDeviceGetConfComputeGpuCertificate(device *d, certificate *c) {
    const char *pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    memset(c, 0, sizeof *c);
    if (option("FAKE_CHAIN", -1) == d->index) pem = "no PEM";
    memcpy(c->attestation, pem, strlen(pem));
    c->attestation_size = (unsigned)option("FAKE_CHAIN_SIZE", (long)strlen(pem) + 3);
    return 0;
}

/* --- a GPU --- */
int nvmlDeviceGetUUID(device *d, char *out, unsigned size) {
    snprintf(out, size, "GPU-00000000-0000-0000-0000-00000000000%ld", d->index);
    return 0;
}
int nvmlDeviceGetArchitecture(device *d, unsigned *out) {
    (void)d; *out = (unsigned)option("FAKE_ARCH", 9); return 0;
}
int nvmlDeviceGetSerial(device *d, char *out, unsigned size) {
    snprintf(out, size, "16500000000%ld", d->index); return 0;
}
int nvmlDeviceGetVbiosVersion(device *d, char *out, unsigned size) {
    (void)d; text(out, size, "96.00.9F.00.01"); return 0;
}
int nvmlDeviceGetModuleId(device *d, unsigned *out) { *out = (unsigned)d->index + 1; return 0; }
typedef struct {
    char legacy[16];
    unsigned domain, bus, slot, id, subsystem;
    char bus_id[32];
} pci;
static void fill_pci(pci *p, unsigned bus, unsigned id) {
    memset(p, 0, sizeof *p);
    p->bus = bus; p->id = id;
    snprintf(p->bus_id, sizeof p->bus_id, "00000000:%02X:00.0", bus);
}
int nvmlDeviceGetPciInfo_v3(device *d, pci *p) {
    fill_pci(p, 0x10 + (unsigned)d->index, 0x233010DE); return 0;
}
#ifndef OLD
typedef struct { unsigned version; uint64_t value; } pdi;
int nvmlDeviceGetPdi(device *d, pdi *p) {
    if (p->version != 0x1000010) return VERSION_MISMATCH;
    p->value = 0x1122334455667700ull + (unsigned)d->index; return 0;
}
typedef struct {
    unsigned version;
    uint8_t guid[16], chassis[16], slot, tray, host, peer, module;
} platform;
int nvmlDeviceGetPlatformInfo(device *d, platform *p) {
    if (p->version != 0x200002c || sizeof *p != 0x2c) return VERSION_MISMATCH;
    for (int i = 0; i < 16; i++) { p->guid[i] = (uint8_t)i; p->chassis[i] = 0; }
    memcpy(p->chassis, "1820325\0AB", 10);
    p->slot = 3; p->tray = 4; p->host = 1; p->peer = 1; p->module = (uint8_t)(d->index + 1);
    return 0;
}
#endif

/* --- fabric --- */
static const uint8_t cluster[16] = {0xC1, 2, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
typedef struct { uint8_t uuid[16]; unsigned status, clique; uint8_t state; } fabric1;
int nvmlDeviceGetGpuFabricInfo(device *d, fabric1 *f) {
    (void)d;
    if (option("FAKE_FABRIC", 0)) return (int)option("FAKE_FABRIC", 0);
    memcpy(f->uuid, cluster, 16); f->status = 0; f->clique = 7; f->state = 3;
    return 0;
}
#ifndef OLD
typedef struct {
    unsigned version;
    uint8_t uuid[16];
    unsigned status, clique;
    uint8_t state;
    unsigned mask;
    uint8_t summary;
} fabric3;
int nvmlDeviceGetGpuFabricInfoV(device *d, fabric3 *f) {
    (void)d;
    if (option("FAKE_FABRIC", 0)) return (int)option("FAKE_FABRIC", 0);
    if (f->version != 0x3000028 && f->version != 0x2000024) return VERSION_MISMATCH;
    if (f->version == 0x3000028 && option("FAKE_FABRIC_NEWEST", 4) < 3) return VERSION_MISMATCH;
    memcpy(f->uuid, cluster, 16); f->status = 0; f->clique = 7; f->state = 3; f->mask = 0x51AA;
    if (f->version == 0x3000028) f->summary = 1;
    return 0;
}
typedef struct { uint8_t type; unsigned id; } clique;
typedef struct {
    uint8_t uuid[16];
    unsigned status;
    clique cliques[64];
    unsigned count;
    uint8_t state;
    unsigned mask;
    uint8_t summary;
} fabric4;
int nvmlDeviceGetGpuFabricInfo_v4(device *d, fabric4 *f) {
    (void)d;
    if (sizeof *f != 548 || option("FAKE_FABRIC_NEWEST", 4) < 4) return VERSION_MISMATCH;
    if (option("FAKE_FABRIC", 0)) return (int)option("FAKE_FABRIC", 0);
    memset(f, 0, sizeof *f);
    memcpy(f->uuid, cluster, 16);
    f->cliques[0] = (clique){0, 7}; f->cliques[1] = (clique){1, 9};
    f->count = (unsigned)option("FAKE_CLIQUES", 2);
    f->state = 3; f->mask = 0x51AA; f->summary = 1;
    return 0;
}
typedef struct { uint8_t type; unsigned major, minor, sub; } firmware;
typedef struct {
    unsigned version, encrypted;
    firmware entries[100];
    unsigned count;
} link_info;
int nvmlDeviceGetNvLinkInfo(device *d, link_info *l) {
    (void)d;
    int second = l->version == 0x200064c && sizeof *l == 0x64c;
    if (!second && l->version != 0x1000008) return VERSION_MISMATCH;
    if (second && option("FAKE_LINK_INFO", 2) < 2) return VERSION_MISMATCH;
    l->encrypted = 1;
    if (second) { l->entries[0] = (firmware){2, 31, 2014, 1}; l->count = 1; }
    return 0;
}
#endif
int nvmlDeviceGetNvLinkState(device *d, unsigned link, unsigned *out) {
    (void)d;
    long links = option("FAKE_LINKS", 18);
    if (links < 0) return NOT_SUPPORTED;
    if ((long)link >= links) return INVALID_ARGUMENT;
    *out = link != 5;
    return 0;
}
int nvmlDeviceGetNvLinkVersion(device *d, unsigned link, unsigned *out) {
    (void)d; (void)link; *out = 6; return 0;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(device *d, unsigned link, unsigned *out) {
    (void)d;
    if (link == 5) return NOT_SUPPORTED;
    *out = 2;
    return 0;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(device *d, unsigned link, pci *p) {
    (void)d; fill_pci(p, 0x80 + link % 4, 0x22A310DE); return 0;
}
int nvmlDeviceGetP2PStatus(device *one, device *other, unsigned index, unsigned *out) {
    if (one == other) return INVALID_ARGUMENT;
    *out = index == 3 ? 5 : 0;
    return 0;
}
int nvmlDeviceGetTopologyCommonAncestor(device *one, device *other, unsigned *out) {
    (void)one; (void)other; *out = 50; return 0;
}

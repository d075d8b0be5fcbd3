/* A library with the calls of libnvidia-nscq.so.2 that ccverify makes.  What it plays is in the
 * environment (FAKE_…), read at each call.  -DOTHER builds a library that is not NSCQ. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long option(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value && *value ? strtol(value, 0, 0) : otherwise;
}

typedef int8_t rc_t;
typedef struct { uint8_t bytes[16]; } uuid_t_;
typedef struct { char data[64]; } label_t;
typedef struct { uint32_t size; uint8_t data[0x2000]; } report_t;
typedef struct { uint8_t data[0x1400]; uint32_t size; } certificate_t;
typedef struct { int mounted; uint8_t nonce[32]; uint32_t nonce_size; } session_t;
typedef struct { rc_t rc; session_t *session; } result_t;
typedef void (*fn_t)(void);

result_t nscq_session_create(uint32_t flags) {
    result_t result = {(rc_t)option("FAKE_CREATE", 0), 0};
    if (result.rc < 0) return result;
    result.session = calloc(1, sizeof(session_t));
    result.session->mounted = flags == 1;
    return result;
}
void nscq_session_destroy(session_t *session) { free(session); }
#ifndef OTHER
rc_t nscq_uuid_to_label(const uuid_t_ *uuid, label_t *label, uint32_t flags) {
    (void)flags;
    snprintf(label->data, sizeof label->data, "SWX-%02X%02X", uuid->bytes[0], uuid->bytes[15]);
    return 0;
}
rc_t nscq_session_set_input(session_t *session, uint32_t flags, void *data, uint32_t size) {
    if (flags || size != 32) return -5;
    memcpy(session->nonce, data, 32);
    session->nonce_size = 32;
    return 0;
}
static uuid_t_ uuid_of(long index) {
    uuid_t_ uuid = {{0}};
    /* Told in another order than their names sort. */
    uuid.bytes[0] = (uint8_t)(0xF0 - index);
    uuid.bytes[15] = (uint8_t)index;
    return uuid;
}
static void answer_report(session_t *s, fn_t fn, void *data, long i) {
    static report_t r;
    uuid_t_ uuid = uuid_of(i);
    rc_t rc = option("FAKE_REFUSES", -1) == i ? -7 : 0;
    if (option("FAKE_SLOW", -1) == i) usleep((useconds_t)option("FAKE_SLOW_MS", 0) * 1000);
    memset(r.data, 0xB0 + (int)i, sizeof r.data);
    memcpy(r.data, "\x11\xe0\x01\xff", 4);
    memcpy(r.data + 4, s->nonce, 32);
    if (option("FAKE_NONCE", -1) == i) r.data[9] ^= 1;
    r.size = s->nonce_size == 32 ? (uint32_t)option("FAKE_SIZE", 2172) : 0;
    s->nonce_size = 0; /* an input serves one observation */
    ((void (*)(const uuid_t_ *, rc_t, report_t, void *))fn)(&uuid, rc, r, data);
}
static void answer_certificate(fn_t fn, void *data, long i) {
    static certificate_t c;
    uuid_t_ uuid = uuid_of(i);
    const char *pem = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n";
    memset(&c, 0, sizeof c);
    memcpy(c.data, pem, strlen(pem));
    c.size = (uint32_t)strlen(pem) + 2;
    ((void (*)(const uuid_t_ *, rc_t, certificate_t, void *))fn)(&uuid, 0, c, data);
}
rc_t nscq_session_path_observe(session_t *s, const char *path, fn_t fn, void *data, uint32_t flags) {
    long switches = option("FAKE_SWITCHES", 4);
    if (flags || !s->mounted) return -3;
    if (!strcmp(path, "/drv/nvswitch/{device}/uuid")) {
        if (option("FAKE_OBSERVE", 0)) return (rc_t)option("FAKE_OBSERVE", 0);
        for (long i = 0; i < switches; i++) {
            uuid_t_ uuid = uuid_of(i);
            ((void (*)(const uuid_t_ *, rc_t, const uuid_t_ *, void *))fn)(&uuid, 0, &uuid, data);
        }
        return 0;
    }
    for (long i = 0; i < switches; i++) {
        uuid_t_ uuid = uuid_of(i);
        label_t label;
        char expected[128];
        nscq_uuid_to_label(&uuid, &label, 0);
        snprintf(expected, sizeof expected, "/%s/", label.data);
        if (strncmp(path, expected, strlen(expected))) continue;
        const char *rest = path + strlen(expected);
        if (!strcmp(rest, "config/attestation_report")) answer_report(s, fn, data, i);
        else if (!strcmp(rest, "config/certificate")) answer_certificate(fn, data, i);
        else if (!strcmp(rest, "id/arch"))
            ((void (*)(const uuid_t_ *, rc_t, int8_t, void *))fn)(&uuid, 0, 2, data);
        else if (!strcmp(rest, "config/pcie_mode")) {
            rc_t rc = (rc_t)option("FAKE_MODE_CODE", 0);
            int8_t mode = (int8_t)option("FAKE_MODE", 3);
            ((void (*)(const uuid_t_ *, rc_t, int8_t, void *))fn)(&uuid, rc, mode, data);
        } else return -1;
        return 0;
    }
    return -2;
}
#endif

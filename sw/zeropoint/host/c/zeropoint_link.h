/* A host of a Zeropoint accelerator at the other end of a serial line, for microcontrollers: C99, no memory allocation,
 * nothing of an operating system. docs/link.md describes the protocol.
 *
 * Requests go out one at a time. What is lost or damaged is sent again; no request is done twice, and no function reports
 * success before the device has confirmed it. The functions return ZP_OK, or else what went wrong, after which zp_open()
 * is to be called again; nothing that was read may be used then.
 */
#ifndef ZEROPOINT_LINK_H
#define ZEROPOINT_LINK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that a request writes or reads at most, and of the longest frame on the line. */
#define ZP_MAX_DATA 240
#define ZP_MAX_LINE 256
#define ZP_HASH_BYTES 8

/* How often a request is sent before the device is given up. */
#ifndef ZP_ATTEMPTS
#define ZP_ATTEMPTS 20
#endif

typedef enum {
    ZP_OK = 0,
    ZP_CLOSED = 1,      /* the device was reset: open it, and load the program again */
    ZP_SEQUENCE = 2,    /* a request was lost that the device had confirmed: it cannot be */
    ZP_REQUEST = 3,     /* the device does not know the request: is it of another version? */
    ZP_ADDRESS = 4,     /* nothing can be written there */
    ZP_PROGRAM = 5,     /* the device does not hold the program with this hash */
    ZP_WEIGHTS = 6,     /* the device has found no whole weights in its flash */
    ZP_NO_ANSWER = 16,  /* the device does not answer */
    ZP_VERSION = 17,    /* the device speaks another version of the protocol */
    ZP_ARGUMENT = 18,   /* an argument is out of range */
    ZP_LINE = 19,       /* a callback failed */
    ZP_CONFIGURATION = 20 /* the device has another configuration than the program was compiled for */
} zp_status;

/* The line. Both functions get `context`.
 *
 * write: sends all bytes; returns 0, or anything else if it cannot.
 * read: stores up to `size` bytes, and returns how many, 0 if none come within `milliseconds`, or below 0 if it cannot.
 */
typedef struct {
    void *context;
    int (*write)(void *context, const uint8_t *data, size_t size);
    int (*read)(void *context, uint8_t *data, size_t size, uint32_t milliseconds);
} zp_line;

/* What a device says of itself. */
typedef struct {
    uint8_t version;
    uint8_t buffer_bits;
    uint8_t loaded; /* 1 if `program` is the hash of a loaded program */
    uint8_t configuration[8];
    uint8_t program[ZP_HASH_BYTES];
} zp_identity;

/* A session. Its members are the driver's own, but for those that count. */
typedef struct {
    zp_line line;
    uint32_t timeout;    /* milliseconds until a request is sent again */
    uint32_t nonce;
    uint8_t sequence;
    uint8_t opened;
    uint8_t host_bytes;
    uint32_t repeated;   /* requests that were sent again */
    uint32_t damaged;    /* damaged frames that came */
    size_t received;     /* bytes in `in` */
    uint8_t in[ZP_MAX_LINE];
    uint8_t out[ZP_MAX_LINE + 2];
} zp_link;

/* Opens a session.
 *
 * host_bytes: the accelerator's bytes of activations in an access, HOST_BYTES in a program's header: 1, 2 or 4.
 * nonce: any number that is another one each time, such as a count of starts or a timer.
 * timeout: milliseconds until a request is sent again, such as 200.
 * configuration: that of the program's header, which the device must have; NULL takes any.
 * identity: gets what the device is.
 */
zp_status zp_open(zp_link *link, zp_line line, unsigned host_bytes, uint32_t nonce, uint32_t timeout,
                  const uint8_t *configuration, zp_identity *identity);

/* Words of any region but activations: from `address` on, one address after the other. */
zp_status zp_write_words(zp_link *link, uint32_t address, const uint32_t *words, size_t count);
zp_status zp_read_words(zp_link *link, uint32_t address, uint32_t *words, size_t count);

/* Bytes of the activation memory from `offset` on, a multiple of host_bytes. What is written is filled up with zeros to
 * whole accesses, as tensors have room for. */
zp_status zp_write_bytes(zp_link *link, uint32_t offset, const uint8_t *data, size_t size);
zp_status zp_read_bytes(zp_link *link, uint32_t offset, uint8_t *data, size_t size);

/* The memories of a program, from the arrays of its header: instructions; channels of 9 bytes (bias, multiplier, shift);
 * tables; and weight words of `word_bits` bits, each in `word_bytes` bytes, the least significant first. */
zp_status zp_load_program(zp_link *link, const uint32_t *words, size_t count);
zp_status zp_load_parameters(zp_link *link, const uint8_t (*channels)[9], size_t count);
zp_status zp_load_tables(zp_link *link, const uint8_t *entries, size_t count);
zp_status zp_load_weights(zp_link *link, const uint8_t *words, size_t count, unsigned word_bits, unsigned word_bytes);

/* Says that the program with this hash is complete; zp_run() wants the same one. */
zp_status zp_loaded(zp_link *link, const uint8_t hash[ZP_HASH_BYTES]);

/* Runs the program, and returns when it is done; `milliseconds` is what that may take. */
zp_status zp_run(zp_link *link, const uint8_t hash[ZP_HASH_BYTES], uint32_t milliseconds);

#ifdef __cplusplus
}
#endif

#endif

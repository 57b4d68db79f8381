/* See zeropoint_link.h. */
#include "zeropoint_link.h"

#include <string.h>

enum { IDENTIFY = 0, READ = 1, WRITE = 2, LOADED = 3, RUN = 4 };

/* Bytes before and after a frame's arguments. */
enum { HEADER = 3, CRC = 4, OVERHEAD = HEADER + CRC, VERSION = 1 };

/* Regions of the host bus (docs/isa.md). */
#define PROGRAM_REGION 0x200000u
#define PARAMETER_REGION 0x400000u
#define WEIGHT_REGION 0x600000u
#define ACTIVATION_REGION 0x800000u
#define TABLE_REGION 0xC00000u

static uint32_t crc32(const uint8_t *data, size_t size) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

static void put_le(uint8_t *out, uint32_t value, size_t size) {
    for (size_t i = 0; i < size; i++) out[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t get_le(const uint8_t *in, size_t size) {
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++) value |= (uint32_t)in[i] << 8 * i;
    return value;
}

/* Encodes link->out[1 ...] in place: each 0 gives way to the distance to the next one, as does the byte before. */
static size_t cobs_encode(uint8_t *out, size_t size) {
    size_t code = 0;
    for (size_t i = 1; i <= size; i++) {
        if (out[i]) continue;
        out[code] = (uint8_t)(i - code);
        code = i;
    }
    out[code] = (uint8_t)(size + 1 - code);
    out[size + 1] = 0;
    return size + 2;
}

/* Decodes in place, and returns the number of bytes, or 0 if they are no code. */
static size_t cobs_decode(uint8_t *data, size_t size) {
    size_t in = 0, out = 0;
    while (in < size) {
        size_t code = data[in++];
        if (code == 0 || code == 255 || in + code - 1 > size) return 0;
        for (size_t i = 1; i < code; i++) data[out++] = data[in++];
        if (in < size) data[out++] = 0;
    }
    return out;
}

/* Waits for an undamaged answer to the request with this number. Returns its length with the frame in link->in, 0 if
 * there is none in time, or below 0 if the line fails. */
static int answer(zp_link *link, uint8_t sequence, uint32_t milliseconds) {
    /* A line that is never silent is no reason to wait forever. */
    for (unsigned bytes = 0; bytes < 16 * ZP_MAX_LINE; bytes++) {
        uint8_t byte;
        int count = link->line.read(link->line.context, &byte, 1, milliseconds);
        if (count <= 0) return count;
        if (byte != 0) {
            /* What is too long is none; its end will not be one either. */
            if (link->received < sizeof link->in) link->in[link->received] = byte;
            if (link->received <= sizeof link->in) link->received++;
            continue;
        }
        size_t size = link->received;
        link->received = 0;
        if (size == 0) continue;
        size = size > sizeof link->in ? 0 : cobs_decode(link->in, size);
        if (size < OVERHEAD || link->in[0] != size || crc32(link->in, size - CRC) != get_le(link->in + size - CRC, CRC)) {
            link->damaged++;
            continue;
        }
        if (link->in[1] == sequence) return (int)size;
    }
    return 0;
}

/* Sends the request whose `size` bytes of arguments are in link->out[4 ...], until it is answered; `data` gets the
 * `expected` bytes of the answer. */
static zp_status ask(zp_link *link, uint8_t request, size_t size, uint8_t *data, size_t expected,
                     uint32_t milliseconds) {
    uint8_t *frame = link->out + 1;
    if (!link->opened) return ZP_CLOSED;
    frame[0] = (uint8_t)(OVERHEAD + size);
    frame[1] = link->sequence;
    frame[2] = request;
    put_le(frame + HEADER + size, crc32(frame, HEADER + size), CRC);
    size_t length = cobs_encode(link->out, OVERHEAD + size);
    zp_status status = ZP_NO_ANSWER;
    for (int attempt = 0; attempt < ZP_ATTEMPTS; attempt++) {
        const uint8_t delimiter = 0;
        /* What the device has got of an earlier attempt ends here. */
        if (attempt > 0) {
            link->repeated++;
            if (link->line.write(link->line.context, &delimiter, 1)) goto failed;
        }
        if (link->line.write(link->line.context, link->out, length)) goto failed;
        int got = answer(link, link->sequence, milliseconds);
        if (got < 0) goto failed;
        if (got == 0) continue;
        if (link->in[2] != ZP_OK) {
            status = (zp_status)link->in[2];
            break;
        }
        if ((size_t)got != OVERHEAD + expected) continue;
        if (expected) memcpy(data, link->in + HEADER, expected);
        link->sequence++;
        return ZP_OK;
    }
    link->opened = 0;
    return status;
failed:
    link->opened = 0;
    return ZP_LINE;
}

zp_status zp_open(zp_link *link, zp_line line, unsigned host_bytes, uint32_t nonce, uint32_t timeout,
                  const uint8_t *configuration, zp_identity *identity) {
    uint8_t data[23];
    if (host_bytes != 1 && host_bytes != 2 && host_bytes != 4) return ZP_ARGUMENT;
    memset(link, 0, sizeof *link);
    link->line = line;
    link->timeout = timeout;
    link->host_bytes = (uint8_t)host_bytes;
    const uint8_t delimiter = 0;
    if (line.write(line.context, &delimiter, 1)) return ZP_LINE;
    /* Each attempt has a nonce of its own: the answer to the last one says that no other is under way. Each is given
     * longer than the one before, as the device may take longer than is thought. */
    uint32_t wait = timeout;
    for (int attempt = 0; attempt < ZP_ATTEMPTS; attempt++, nonce += 0x01000193u) {
        uint8_t *frame = link->out + 1;
        uint8_t sequence = (uint8_t)(nonce ^ nonce >> 8 ^ nonce >> 16 ^ nonce >> 24);
        frame[0] = OVERHEAD + 4;
        frame[1] = sequence;
        frame[2] = IDENTIFY;
        put_le(frame + HEADER, nonce, 4);
        put_le(frame + HEADER + 4, crc32(frame, HEADER + 4), CRC);
        if (line.write(line.context, link->out, cobs_encode(link->out, OVERHEAD + 4))) return ZP_LINE;
        for (;;) {
            int got = answer(link, sequence, wait);
            if (got < 0) return ZP_LINE;
            if (got == 0) break;
            if (got != OVERHEAD + (int)sizeof data || link->in[2] != ZP_OK) continue;
            memcpy(data, link->in + HEADER, sizeof data);
            if (get_le(data, 4) != nonce) continue;
            identity->version = data[4];
            identity->buffer_bits = data[5];
            identity->loaded = data[6] & 1;
            memcpy(identity->configuration, data + 7, 8);
            memcpy(identity->program, data + 15, ZP_HASH_BYTES);
            if (identity->version != VERSION) return ZP_VERSION;
            if (configuration && memcmp(identity->configuration, configuration, 8)) return ZP_CONFIGURATION;
            link->sequence = (uint8_t)(sequence + 1);
            link->opened = 1;
            return ZP_OK;
        }
        if (line.write(line.context, &delimiter, 1)) return ZP_LINE;
        if (wait < 8 * timeout) wait += wait / 2;
    }
    return ZP_NO_ANSWER;
}

/* The arguments of the next request. */
static uint8_t *arguments(zp_link *link) { return link->out + 1 + HEADER; }

zp_status zp_write_words(zp_link *link, uint32_t address, const uint32_t *words, size_t count) {
    while (count) {
        size_t part = count < ZP_MAX_DATA / 4 ? count : ZP_MAX_DATA / 4;
        put_le(arguments(link), address, 3);
        for (size_t i = 0; i < part; i++) put_le(arguments(link) + 3 + 4 * i, words[i], 4);
        zp_status status = ask(link, WRITE, 3 + 4 * part, NULL, 0, link->timeout);
        if (status) return status;
        address += (uint32_t)part;
        words += part;
        count -= part;
    }
    return ZP_OK;
}

zp_status zp_read_words(zp_link *link, uint32_t address, uint32_t *words, size_t count) {
    uint8_t data[ZP_MAX_DATA];
    while (count) {
        size_t part = count < ZP_MAX_DATA / 4 ? count : ZP_MAX_DATA / 4;
        put_le(arguments(link), address, 3);
        arguments(link)[3] = (uint8_t)(4 * part);
        zp_status status = ask(link, READ, 4, data, 4 * part, link->timeout);
        if (status) return status;
        for (size_t i = 0; i < part; i++) words[i] = get_le(data + 4 * i, 4);
        address += (uint32_t)part;
        words += part;
        count -= part;
    }
    return ZP_OK;
}

zp_status zp_write_bytes(zp_link *link, uint32_t offset, const uint8_t *data, size_t size) {
    if (offset % link->host_bytes) return ZP_ARGUMENT;
    while (size) {
        size_t part = size < ZP_MAX_DATA ? size : ZP_MAX_DATA;
        size_t whole = (part + link->host_bytes - 1) / link->host_bytes * link->host_bytes;
        put_le(arguments(link), ACTIVATION_REGION + offset, 3);
        memset(arguments(link) + 3, 0, whole);
        memcpy(arguments(link) + 3, data, part);
        zp_status status = ask(link, WRITE, 3 + whole, NULL, 0, link->timeout);
        if (status) return status;
        offset += (uint32_t)part;
        data += part;
        size -= part;
    }
    return ZP_OK;
}

zp_status zp_read_bytes(zp_link *link, uint32_t offset, uint8_t *data, size_t size) {
    if (offset % link->host_bytes) return ZP_ARGUMENT;
    while (size) {
        size_t part = size < ZP_MAX_DATA ? size : ZP_MAX_DATA;
        put_le(arguments(link), ACTIVATION_REGION + offset, 3);
        arguments(link)[3] = (uint8_t)part;
        zp_status status = ask(link, READ, 4, data, part, link->timeout);
        if (status) return status;
        offset += (uint32_t)part;
        data += part;
        size -= part;
    }
    return ZP_OK;
}

zp_status zp_load_program(zp_link *link, const uint32_t *words, size_t count) {
    return zp_write_words(link, PROGRAM_REGION, words, count);
}

zp_status zp_load_parameters(zp_link *link, const uint8_t (*channels)[9], size_t count) {
    for (size_t i = 0; i < count; i++) {
        /* The shift is two's complement. */
        uint32_t shift = channels[i][8] & 0x80u ? channels[i][8] | 0xFFFFFF00u : channels[i][8];
        uint32_t words[4] = {get_le(channels[i], 4), get_le(channels[i] + 4, 4), shift, 0};
        zp_status status = zp_write_words(link, PARAMETER_REGION + 4 * (uint32_t)i, words, 4);
        if (status) return status;
    }
    return ZP_OK;
}

zp_status zp_load_tables(zp_link *link, const uint8_t *entries, size_t count) {
    uint32_t words[ZP_MAX_DATA / 4];
    for (size_t i = 0; i < count;) {
        size_t part = 0;
        while (part < ZP_MAX_DATA / 4 && i + part < count) {
            words[part] = entries[i + part];
            part++;
        }
        zp_status status = zp_write_words(link, TABLE_REGION + (uint32_t)i, words, part);
        if (status) return status;
        i += part;
    }
    return ZP_OK;
}

zp_status zp_load_weights(zp_link *link, const uint8_t *words, size_t count, unsigned word_bits, unsigned word_bytes) {
    if (word_bits == 0 || word_bytes < (word_bits + 7) / 8) return ZP_ARGUMENT;
    /* A word is written in pieces of as many bits as divide it; their number is filled up to a power of two. */
    unsigned piece_bits = 32;
    while (word_bits % piece_bits) piece_bits--;
    unsigned pieces = word_bits / piece_bits;
    uint32_t places = 1;
    while (places < pieces) places *= 2;
    for (size_t i = 0; i < count; i++, words += word_bytes) {
        for (unsigned first = 0; first < pieces; first += ZP_MAX_DATA / 4) {
            uint32_t part[ZP_MAX_DATA / 4];
            unsigned n = 0;
            for (; n < ZP_MAX_DATA / 4 && first + n < pieces; n++) {
                part[n] = 0;
                for (unsigned bit = 0; bit < piece_bits; bit++) {
                    unsigned place = (first + n) * piece_bits + bit;
                    part[n] |= (uint32_t)(words[place / 8] >> place % 8 & 1u) << bit;
                }
            }
            zp_status status = zp_write_words(link, WEIGHT_REGION + (uint32_t)i * places + first, part, n);
            if (status) return status;
        }
    }
    return ZP_OK;
}

zp_status zp_loaded(zp_link *link, const uint8_t hash[ZP_HASH_BYTES]) {
    memcpy(arguments(link), hash, ZP_HASH_BYTES);
    return ask(link, LOADED, ZP_HASH_BYTES, NULL, 0, link->timeout);
}

zp_status zp_run(zp_link *link, const uint8_t hash[ZP_HASH_BYTES], uint32_t milliseconds) {
    memcpy(arguments(link), hash, ZP_HASH_BYTES);
    return ask(link, RUN, ZP_HASH_BYTES, NULL, 0, milliseconds + link->timeout);
}

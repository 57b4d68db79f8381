/* A host in C at a serial port: loads the program in PROGRAM_HEADER, runs the inputs of a file, and writes the outputs to another.
 *
 * c_host PORT INPUTS OUTPUTS TIMEOUT; PROGRAM_NAME(X) is the header's X with the program's prefix.
 */
#define _DEFAULT_SOURCE
#include PROGRAM_HEADER

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "zeropoint_link.h"

static int write_port(void *context, const uint8_t *data, size_t size) {
    while (size) {
        ssize_t count = write(*(int *)context, data, size);
        if (count <= 0) return -1;
        data += count;
        size -= (size_t)count;
    }
    return 0;
}

static int read_port(void *context, uint8_t *data, size_t size, uint32_t milliseconds) {
    struct pollfd port = {*(int *)context, POLLIN, 0};
    int ready = poll(&port, 1, (int)milliseconds);
    return ready <= 0 ? ready : (int)read(port.fd, data, size);
}

static void check(zp_status status, const char *what) {
    if (status == ZP_OK) return;
    fprintf(stderr, "%s: status %d\n", what, (int)status);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int port = open(argv[1], O_RDWR | O_NOCTTY);
    struct termios mode;
    if (port < 0 || tcgetattr(port, &mode)) return 2;
    cfmakeraw(&mode);
    if (tcsetattr(port, TCSANOW, &mode)) return 2;
    const uint8_t *hash = ARRAY_HASH;

    static zp_link link;
    zp_identity identity;
    zp_line line = {&port, write_port, read_port};
    check(zp_open(&link, line, PROGRAM_NAME(HOST_BYTES), 0x12345678u, (uint32_t)atoi(argv[4]),
                  ARRAY_CONFIGURATION, &identity), "open");
    printf("%d %d\n", identity.version, identity.loaded);
    if (!identity.loaded || memcmp(identity.program, hash, ZP_HASH_BYTES)) {
        check(zp_load_program(&link, ARRAY_PROGRAM, PROGRAM_NAME(PROGRAM_DEPTH)), "program");
        check(zp_load_parameters(&link, ARRAY_PARAMETERS, PROGRAM_NAME(PARAMETERS_DEPTH)), "parameters");
        check(zp_load_weights(&link, ARRAY_WEIGHTS[0], PROGRAM_NAME(WEIGHTS_DEPTH), PROGRAM_NAME(WEIGHTS_WIDTH),
                              sizeof ARRAY_WEIGHTS[0]),
              "weights");
        check(zp_loaded(&link, hash), "loaded");
    }

    FILE *inputs = fopen(argv[2], "rb"), *outputs = fopen(argv[3], "wb");
    if (!inputs || !outputs) return 2;
    static uint8_t input[PROGRAM_NAME(INPUT_BYTES)], output[PROGRAM_NAME(OUTPUT_BYTES)];
    while (fread(input, 1, sizeof input, inputs) == sizeof input) {
        check(zp_write_bytes(&link, PROGRAM_NAME(INPUT_ADDRESS), input, sizeof input), "input");
        check(zp_run(&link, hash, 5000), "run");
        check(zp_read_bytes(&link, PROGRAM_NAME(OUTPUT_ADDRESS), output, sizeof output), "output");
        if (fwrite(output, 1, sizeof output, outputs) != sizeof output) return 2;
    }
    uint32_t cycles;
    check(zp_read_words(&link, ZEROPOINT_REGISTER_CYCLES, &cycles, 1), "cycles");
    printf("%lu %lu %lu\n", (unsigned long)cycles, (unsigned long)link.repeated, (unsigned long)link.damaged);
    return fclose(outputs) != 0;
}

#include "values.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

static const struct unit {
    enum type type;
    const char *name;
    long long factor;
} UNITS[] = {
    {BYTES, "B", 1},           {BYTES, "KiB", 1LL << 10}, {BYTES, "MiB", 1LL << 20},
    {BYTES, "GiB", 1LL << 30}, {MILLIWATTS, "mW", 1},     {MILLIWATTS, "W", 1000},
    {CELSIUS, "C", 1},         {PERCENT, "%", 1},         {MEGAHERTZ, "MHz", 1},
};

char *trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) *--end = 0;
    return text;
}

bool take(char **text, const char *word) {
    size_t n = strlen(word);
    if (strncmp(*text, word, n) || (isalnum((unsigned char)(*text)[n]))) return false;
    *text = trim(*text + n);
    return true;
}

bool take_number(char **text, long long *number) {
    char *end;
    if (!isdigit((unsigned char)**text) && **text != '-') return false;
    errno = 0;
    *number = strtoll(*text, &end, strncmp(*text, "0x", 2) ? 10 : 16);
    if (errno || end == *text) return false;
    *text = trim(end);
    return true;
}

bool take_quantity(char **text, enum type type, long long *number) {
    if (!take_number(text, number) || *number < 0) return false;
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++)
        if (UNITS[i].type == type && !strncmp(*text, UNITS[i].name, strlen(UNITS[i].name))) {
            char *rest = *text + strlen(UNITS[i].name);
            if (*rest && !isspace((unsigned char)*rest)) continue;
            *number *= UNITS[i].factor;
            *text = trim(rest);
            return true;
        }
    return false;
}

int word_position(const char *words, const char *text) {
    int position = 0;
    for (const char *word = words; word; position++) {
        const char *bar = strchr(word, '|');
        size_t n = bar ? (size_t)(bar - word) : strlen(word);
        if (n == strlen(text) && !strncmp(word, text, n) && *word != '-') return position;
        word = bar ? bar + 1 : NULL;
    }
    return -1;
}

bool is_bus_id(const char *text) {
    static const char SHAPE[] = "xxxxxxxx:xx:xx.x";
    if (strlen(text) != sizeof SHAPE - 1) return false;
    for (size_t i = 0; SHAPE[i]; i++)
        if (SHAPE[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != SHAPE[i]) return false;
    return true;
}

bool parse_set(const char *text, unsigned long *bits, size_t words) {
    if (bits) memset(bits, 0, words * sizeof *bits);
    while (*text) {
        char *end;
        if (!isdigit((unsigned char)*text)) return false;
        long first = strtol(text, &end, 10), last = first;
        if (*end == '-') {
            if (!isdigit((unsigned char)end[1])) return false;
            last = strtol(end + 1, &end, 10);
        }
        if (last < first || last >= MAX_SET_BITS || (*end && *end != ',')) return false;
        for (long bit = first; bits && bit <= last; bit++)
            if ((size_t)bit / 64 < words) bits[bit / 64] |= 1UL << (bit % 64);
        text = *end ? end + 1 : end;
    }
    return true;
}

void parse_uuid(const char *text, unsigned char bytes[16]) {
    memset(bytes, 0, 16);
    for (int digit = 0; *text && digit < 32; text++) {
        if (!isxdigit((unsigned char)*text)) continue;
        int value =
            isdigit((unsigned char)*text) ? *text - '0' : tolower((unsigned char)*text) - 'a' + 10;
        bytes[digit / 2] |= (unsigned char)(digit % 2 ? value : value << 4);
        digit++;
    }
}

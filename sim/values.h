/* The values of a description, read one at a time.  `take_*` eat from the front of a text. */
#ifndef NVSIM_VALUES_H
#define NVSIM_VALUES_H

#include <stdbool.h>

/* TEXT to SET: how the value of a key is written, and what it reduces to. */
enum type {
    TEXT,
    NUMBER,
    BYTES,
    MILLIWATTS,
    CELSIUS,
    PERCENT,
    MEGAHERTZ,
    VERSION,
    WORD,
    BUS_ID,
    SET
};

char *trim(char *text);

/* Take `word` off the front of *text (and the blanks after it); false when it is not there. */
bool take(char **text, const char *word);
bool take_number(char **text, long long *number);
/* Take a number with a unit of `type`, such as "80 GiB", in the smallest of its units. */
bool take_quantity(char **text, enum type type, long long *number);

/* The position of `text` in "a|b|c", or -1. */
int word_position(const char *words, const char *text);
bool is_bus_id(const char *text);

#endif

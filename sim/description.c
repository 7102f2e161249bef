/* The reader of machine descriptions (README.md).  Anything it does not know is an error with its
 * line: a typo in a test must not pass for a machine that lacks something. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "values.h"

struct key {
    const char *name;
    enum type type;
    const char *words;
};
#define DESCRIBE_KEY(key, type, words) {#key, type, words},
static const struct key MACHINE_KEY[] = {MACHINE_KEYS(DESCRIBE_KEY)};
static const struct key DEVICE_KEY[] = {DEVICE_KEYS(DESCRIBE_KEY)};

/* The words of the matrices, as `nvidia-smi topo` prints them. */
static const struct cell {
    const char *word;
    int code;
} LEVELS[] = {{"INTERNAL", 0}, {"PIX", 10}, {"PXB", 20}, {"PHB", 30},
              {"NODE", 40},    {"SYS", 50}, {NULL, 0}},
  STATUSES[] = {{"OK", 0}, {"CNS", 1}, {"GNS", 2}, {"TNS", 3},
                {"DR", 4}, {"NS", 5},  {"U", 6},   {NULL, 0}};
static const char *const P2P_NAMES[P2P_KINDS] = {"read", "write", "nvlink", "atomics", "pci"};

struct reader {
    struct machine *machine;
    enum {
        NOWHERE,
        IN_MACHINE,
        IN_DEVICE,
        IN_PCIE,
        IN_P2P,
        IN_FAULTS,
        IN_EVENTS
    } section;
    struct device every_gpu; /* [gpu *]: where each GPU starts from */
    struct device *device;
    int p2p_kind, line;
    bool seen_pcie, seen_p2p[P2P_KINDS], seen_machine;
    int rows[1 + P2P_KINDS];
    char error[512];
};

static bool fail(struct reader *r, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(r->error, sizeof r->error, format, arguments);
    va_end(arguments);
    return false;
}

/* `30 C`, or `20 % to 90 %` for what goes up and down. */
static bool take_range(char *text, enum type type, struct value *value) {
    if (!take_quantity(&text, type, &value->number)) return false;
    if (!*text) return true;
    return take(&text, "to") && take_quantity(&text, type, &value->most) && !*text &&
           value->most > value->number;
}

static bool parse_value(struct reader *r, const struct key *key, char *text, struct value *value) {
    if (value->given && !value->inherited) return fail(r, "%s is given twice", key->name);
    if (!*text && key->type != SET) return fail(r, "%s has no value", key->name);
    if (strlen(text) >= TEXT_SIZE) return fail(r, "%s is longer than %d", key->name, TEXT_SIZE - 1);
    *value = (struct value){.given = true, .text = text};
    long long minor;
    switch (key->type) {
    case TEXT: return true;
    case SET:
        return parse_set(text, NULL, 0) ||
               fail(r, "%s: '%s' is no list like 0-3,8", key->name, text);
    case BUS_ID:
        return is_bus_id(text) || fail(r, "%s: '%s' is not like 00000000:18:00.0", key->name, text);
    case WORD:
        value->number = word_position(key->words, text);
        return value->number >= 0 || fail(r, "%s: '%s' is none of %s", key->name, text, key->words);
    case NUMBER:
        return (take_number(&text, &value->number) && !*text) ||
               fail(r, "%s: '%s' is not a number", key->name, text);
    case VERSION:
        if (!take_number(&text, &value->number) || *text++ != '.' || !take_number(&text, &minor) ||
            *text)
            return fail(r, "%s: '%s' is not like 12.4", key->name, value->text);
        value->number = value->number * 1000 + minor * 10;
        return true;
    default:
        return take_range(text, key->type, value) ||
               fail(r, "%s: '%s' is not a number with its unit", key->name, value->text);
    }
}

static bool parse_key(struct reader *r, const struct key *keys, size_t count, struct value *values,
                      const char *name, char *text) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(keys[i].name, name)) return parse_value(r, &keys[i], text, &values[i]);
    return fail(r, "unknown key '%s'", name);
}

/* `switch 00000000:07:00.0`: what is at the other end; the bus id may be hidden (a VM). */
static bool take_remote(char **item, struct link *link) {
    static const struct {
        const char *word;
        int code;
    } KINDS[] = {{"gpu", 0}, {"ibmnpu", 1}, {"switch", 2}, {"unknown", 255}};
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (take(item, KINDS[i].word)) {
            link->remote_type = KINDS[i].code;
            if (!is_bus_id(*item)) return !**item;
            strcpy(link->remote_bus_id, *item);
            *item += strlen(*item);
            return true;
        }
    return false;
}

static bool take_version(char **item, struct link *link) {
    if (!take(item, "version")) return false;
    link->version = word_position("-|1.0|2.0|2.2|3.0|3.1|4.0|5.0|6.0", *item);
    if (link->version >= 0) *item += strlen(*item);
    return link->version >= 0;
}

static bool parse_link(struct reader *r, struct link *link, char *text) {
    *link = (struct link){.given = true, .version = UNKNOWN, .remote_type = UNKNOWN};
    for (char *item; (item = strsep(&text, ","));) {
        bool known = true;
        item = trim(item);
        if (take(&item, "enabled")) link->enabled = true;
        else if (take(&item, "p2p")) link->p2p = true;
        else if (take(&item, "atomics")) link->atomics = true;
        else
            known =
                take(&item, "disabled") || take_version(&item, link) || take_remote(&item, link);
        if (!known || *item) return fail(r, "nvlink: cannot read '%s'", item);
    }
    return true;
}

/* `nvlink 3 = ...`, or `nvlink 0-4 = ...` for links that are alike. */
static bool parse_links(struct reader *r, char *name, const char *text) {
    long long first, last;
    bool good = take_number(&name, &first);
    last = first;
    if (good && *name == '-') name++, good = take_number(&name, &last);
    if (!good || *name || first < 0 || last < first || last >= MAX_LINKS)
        return fail(r, "expected nvlink N or nvlink N-M, up to %d", MAX_LINKS - 1);
    for (long long number = first; number <= last; number++) {
        struct link *link = &r->device->link[number];
        char copy[TEXT_SIZE];
        if (link->given && !link->inherited) return fail(r, "nvlink %lld is given twice", number);
        if (strlen(text) >= sizeof copy) return fail(r, "nvlink: the line is too long");
        if (!parse_link(r, link, strcpy(copy, text))) return false;
    }
    return true;
}

static bool parse_process(struct reader *r, char *text) {
    struct device *device = r->device;
    long long number;
    if (device->processes == MAX_PROCESSES) return fail(r, "more than %d processes", MAX_PROCESSES);
    struct process *process = &device->process[device->processes++];
    process->memory = UNKNOWN;
    for (char *item; (item = strsep(&text, ","));) {
        item = trim(item);
        if (take(&item, "pid") && take_number(&item, &number) && number > 0)
            process->pid = (unsigned)number;
        else if (take(&item, "memory") && take_quantity(&item, BYTES, &number))
            process->memory = number;
        else if (take(&item, "graphics")) process->graphics = true;
        else return fail(r, "process: cannot read '%s'", item);
        if (*item) return fail(r, "process: cannot read '%s'", item);
    }
    return process->pid || fail(r, "process: no pid");
}

static bool parse_row(struct reader *r, int (*matrix)[MAX_GPUS], int *rows,
                      const struct cell *cells, char *name, char *text) {
    struct machine *machine = r->machine;
    long long row;
    if (!take_number(&name, &row) || *name || row != *rows)
        return fail(r, "expected row %d of the matrix, not '%s'", *rows, name);
    (*rows)++;
    int column = 0;
    for (char *word, *rest = text; (word = strtok_r(rest, " \t", &rest)); column++) {
        if (row >= machine->gpus || column >= machine->gpus)
            return fail(r, "the matrix is larger than the %d GPUs above it", machine->gpus);
        if (!strcmp(word, "X") != (column == row))
            return fail(r, "'X' belongs on the diagonal only");
        if (column == row || !strcmp(word, "?")) continue;
        const struct cell *cell = cells;
        while (cell->word && strcmp(cell->word, word)) cell++;
        if (!cell->word) return fail(r, "unknown word '%s'", word);
        if (column < row && matrix[column][row] != cell->code)
            return fail(r, "%lld,%d is '%s', and not so in row %d", row, column, word, column);
        matrix[row][column] = cell->code;
    }
    return column == machine->gpus || fail(r, "%d cells for %d GPUs", column, machine->gpus);
}

static bool parse_fault(struct reader *r, char *name, char *text) {
    struct machine *machine = r->machine;
    if (machine->faults == MAX_FAULTS) return fail(r, "more than %d faults", MAX_FAULTS);
    struct fault *fault = &machine->fault[machine->faults++];
    *fault = (struct fault){.gpu = -1, .line = r->line, .code = UNKNOWN};
    long long number;
    char *function = strsep(&name, " \t");
    if (strncmp(function, "nvml", 4) && strncmp(function, "cu", 2))
        return fail(r, "'%s' is no function of NVML or CUDA", function);
    snprintf(fault->function, sizeof fault->function, "%s", function);
    if (name) {
        name = trim(name);
        if (!take(&name, "gpu") || !take_number(&name, &number) || *name || number < 0 ||
            number >= machine->gpus)
            return fail(r, "expected 'gpu N' of a GPU above after '%s'", function);
        fault->gpu = (int)number;
    }
    for (char *item; (item = strsep(&text, ","));) {
        item = trim(item);
        if (take(&item, "return") && take_number(&item, &number)) fault->code = (int)number;
        else if (take(&item, "delay") && take_number(&item, &number) && number >= 0 &&
                 take(&item, "ms"))
            fault->delay_ms = (int)number;
        else if (take(&item, "crash")) fault->crash = true;
        else if (take(&item, "hang")) fault->hang = true;
        else if (take(&item, "with") && *item) {
            snprintf(fault->variable, sizeof fault->variable, "%s", item);
            item += strlen(item);
        } else
            return fail(r, "cannot read '%s': return N, delay N ms, crash, hang, with NAME", item);
        if (*item) return fail(r, "cannot read '%s'", item);
    }
    return true;
}

/* `xid = 79, gpu 3, instance 2/0`, or `ecc = double, gpu 3`. */
static bool parse_event(struct reader *r, const char *name, char *text) {
    struct machine *machine = r->machine;
    if (machine->events == MAX_EVENTS) return fail(r, "more than %d events", MAX_EVENTS);
    struct event *event = &machine->event[machine->events++];
    *event = (struct event){.gpu = -1, .gpu_instance = -1, .compute_instance = -1};
    long long number, compute;
    bool xid = !strcmp(name, "xid");
    if (!xid && strcmp(name, "ecc")) return fail(r, "expected xid or ecc, not '%s'", name);
    if (xid) event->type = 0x8; /* nvmlEventTypeXidCriticalError */
    for (char *item; (item = strsep(&text, ","));) {
        item = trim(item);
        const char *whole = item;
        if (take(&item, "gpu") && take_number(&item, &number) && number >= 0 &&
            number < machine->gpus)
            event->gpu = (int)number;
        else if (take(&item, "instance") && take_number(&item, &number) && *item++ == '/' &&
                 take_number(&item, &compute))
            event->gpu_instance = (int)number, event->compute_instance = (int)compute;
        else if (xid && take_number(&item, &number) && number > 0)
            event->data = (unsigned long long)number;
        else if (!xid && take(&item, "single")) event->type = 0x1;
        else if (!xid && take(&item, "double")) event->type = 0x2;
        else return fail(r, "%s: cannot read '%s'", name, whole);
        if (*item) return fail(r, "%s: cannot read '%s'", name, whole);
    }
    if (event->gpu < 0) return fail(r, "%s: of which GPU above?", name);
    return (event->type && (event->data || !xid)) || fail(r, "%s: no number, or no kind", name);
}

static void inherit(struct device *device, const struct device *every_gpu) {
    *device = *every_gpu;
    for (int key = 0; key < DEVICE_KEY_COUNT; key++) device->value[key].inherited = true;
    for (int number = 0; number < MAX_LINKS; number++) device->link[number].inherited = true;
}

static bool open_device(struct reader *r, char *name) {
    struct machine *machine = r->machine;
    long long gpu, mig;
    r->section = IN_DEVICE;
    if (!strcmp(name, "*")) {
        r->device = &r->every_gpu;
        return !machine->gpus || fail(r, "[gpu *] comes before the GPUs");
    }
    if (!take_number(&name, &gpu)) return fail(r, "expected [gpu N] or [gpu N mig M]");
    if (!*name) {
        if (gpu != machine->gpus || gpu >= MAX_GPUS)
            return fail(r, "expected [gpu %d]: they count up from 0, at most %d", machine->gpus,
                        MAX_GPUS);
        r->device = &machine->gpu[machine->gpus++];
        inherit(r->device, &r->every_gpu);
        r->device->index = (int)gpu;
        return true;
    }
    if (!take(&name, "mig") || !take_number(&name, &mig) || *name)
        return fail(r, "expected [gpu N mig M]");
    if (gpu != machine->gpus - 1) return fail(r, "a MIG section follows the section of its GPU");
    if (mig != machine->migs[gpu] || mig >= MAX_MIG)
        return fail(r, "expected mig %d: they count up from 0, at most %d", machine->migs[gpu],
                    MAX_MIG);
    r->device = &machine->mig[gpu][machine->migs[gpu]++];
    r->device->index = (int)mig;
    r->device->parent = &machine->gpu[gpu];
    return true;
}

static bool open_section(struct reader *r, char *name) {
    bool *seen = NULL;
    if (take(&name, "gpu")) {
        if (r->seen_pcie || r->machine->faults || r->machine->events)
            return fail(r, "GPUs come before matrices, faults and events");
        return open_device(r, name);
    }
    if (!strcmp(name, "machine")) r->section = IN_MACHINE, seen = &r->seen_machine;
    else if (!strcmp(name, "pcie")) r->section = IN_PCIE, seen = &r->seen_pcie;
    else if (!strcmp(name, "faults")) return r->section = IN_FAULTS, true;
    else if (!strcmp(name, "events")) return r->section = IN_EVENTS, true;
    else if (take(&name, "p2p"))
        for (int kind = 0; kind < P2P_KINDS; kind++)
            if (!strcmp(name, P2P_NAMES[kind]))
                r->section = IN_P2P, r->p2p_kind = kind, seen = &r->seen_p2p[kind];
    if (!seen) return fail(r, "unknown section");
    if (*seen) return fail(r, "this section comes twice");
    return *seen = true;
}

static bool parse_line(struct reader *r, char *line) {
    struct machine *machine = r->machine;
    size_t length = strlen(line);
    if (!length || *line == '#') return true;
    if (*line == '[') {
        if (line[length - 1] != ']') return fail(r, "no ']' at the end");
        line[length - 1] = 0;
        return open_section(r, trim(line + 1));
    }
    char *equals = strchr(line, '=');
    if (!equals) return fail(r, "expected 'key = value' or '[section]'");
    *equals = 0;
    char *name = trim(line), *text = trim(equals + 1);
    switch (r->section) {
    case IN_MACHINE:
        return parse_key(r, MACHINE_KEY, MACHINE_KEY_COUNT, machine->value, name, text);
    case IN_DEVICE:
        if (!strcmp(name, "process")) return parse_process(r, text);
        if (take(&name, "nvlink")) return parse_links(r, name, text);
        return parse_key(r, DEVICE_KEY, DEVICE_KEY_COUNT, r->device->value, name, text);
    case IN_PCIE: return parse_row(r, machine->pcie_level, &r->rows[0], LEVELS, name, text);
    case IN_P2P:
        return parse_row(r, machine->p2p[r->p2p_kind], &r->rows[1 + r->p2p_kind], STATUSES, name,
                         text);
    case IN_FAULTS: return parse_fault(r, name, text);
    case IN_EVENTS: return parse_event(r, name, text);
    default: return fail(r, "'%s' stands before any section", name);
    }
}

static bool matrices_are_complete(struct reader *r) {
    int gpus = r->machine->gpus;
    if (r->seen_pcie && r->rows[0] != gpus) return fail(r, "[pcie] ends after %d rows", r->rows[0]);
    for (int kind = 0; kind < P2P_KINDS; kind++)
        if (r->seen_p2p[kind] && r->rows[1 + kind] != gpus)
            return fail(r, "[p2p %s] ends after %d rows", P2P_NAMES[kind], r->rows[1 + kind]);
    return true;
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    if (!file) return NULL;
    bool is_read = getdelim(&text, &room, 0, file) >= 0;
    if (!is_read && !ferror(file)) *text = 0, is_read = true; /* it is empty */
    if (!is_read) free(text), text = NULL;
    fclose(file);
    return text;
}

bool machine_read(struct machine *machine, const char *path, char *error, size_t size) {
    free(machine->source);
    memset(machine, 0, sizeof *machine);
    for (int i = 0; i < MAX_GPUS; i++)
        for (int j = 0; j < MAX_GPUS; j++) {
            machine->pcie_level[i][j] = UNKNOWN;
            for (int kind = 0; kind < P2P_KINDS; kind++) machine->p2p[kind][i][j] = UNKNOWN;
        }
    char *rest = machine->source = read_file(path);
    if (!rest) return snprintf(error, size, "%s: %s", path, strerror(errno)), false;
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader) return snprintf(error, size, "out of memory"), false;
    reader->machine = machine;
    bool good = true;
    while (good && rest && *rest) {
        reader->line++;
        good = parse_line(reader, trim(strsep(&rest, "\n")));
    }
    good = good && matrices_are_complete(reader);
    if (!good) snprintf(error, size, "%s:%d: %s", path, reader->line, reader->error);
    free(reader);
    return good;
}

/* launcher, entrypoint: start root's Python with nothing that the workspace user could have put in.
 *
 * The container's environment is there for the user's programs too, and may name folders that the
 * user can write: LD_LIBRARY_PATH of a library in /opt/venv, say.  The dynamic loader, the C
 * library and OpenSSL read such variables before any program of ours runs.  So this one is linked
 * statically, and what root's Python must not follow is set aside for it under another name
 * (launcher/settings/environ.py): it is handed on to the user's programs as it was.
 *
 * What names only what is root's alone stays, as where a cluster mounts the driver.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef HOME
#define HOME "/opt/launcher"
#endif
#define PYTHON HOME "/bin/python"
#define ASIDE "LAUNCHER_SET_ASIDE_"

extern char **environ;

/* ld.so(8), gconv and locales (glibc manual), openssl-env(7), python(1), bash(1): whatever makes a
 * program load code or write a file; a name that ends in _ stands for all that begin so. */
static const char *const FOLLOWED[] = {
    "LD_", "PYTHON", "OPENSSL_", "GCONV_PATH", "LOCPATH", "NLSPATH", "MALLOC_TRACE",
    "SSLKEYLOGFILE", "BASH_ENV", "ENV",
};

/* Commands of other images that start the box: launcher/settings/meant.py says what they mean. */
static const char *const DOORS[] = {
    "start-notebook.py", "start-notebook.sh", "start-singleuser.py", "start-singleuser.sh",
    "start.sh", "init",
};

static int is_door(const char *called)
{
    for (size_t i = 0; i < sizeof DOORS / sizeof *DOORS; i++)
        if (strcmp(called, DOORS[i]) == 0)
            return 1;
    return 0;
}

static int begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Tell whether `variable` (NAME=VALUE) is one of those, all of PYTHON… among them. */
static int is_followed(const char *variable)
{
    for (size_t i = 0; i < sizeof FOLLOWED / sizeof *FOLLOWED; i++) {
        size_t length = strlen(FOLLOWED[i]);
        int any = FOLLOWED[i][length - 1] == '_' || strcmp(FOLLOWED[i], "PYTHON") == 0;
        if (begins(variable, FOLLOWED[i]) && (any || variable[length] == '='))
            return 1;
    }
    return 0;
}

/* Tell whether nobody but root can change what is at `path`, which has no link in it. */
static int is_roots_alone(const char *path)
{
    char above[PATH_MAX];
    struct stat info;
    size_t length = strlen(path);

    memcpy(above, path, length + 1);
    for (;;) {
        if (lstat(above, &info) || info.st_uid != 0 || info.st_mode & (S_IWGRP | S_IWOTH))
            return 0;
        if (strcmp(above, "/") == 0)
            return 1;
        char *slash = strrchr(above, '/');
        slash[slash == above ? 1 : 0] = '\0';
    }
}

/* Append what root may have of one entry of a list: where a path leads, if that is root's. */
static void append_safe(char *safe, const char *entry, size_t length, int names_are_safe)
{
    char path[PATH_MAX], real[PATH_MAX];

    if (length == 0 || length >= sizeof path)
        return;
    memcpy(path, entry, length);
    path[length] = '\0';
    if (strchr(path, '/') == NULL) { /* 1, as in LD_BIND_NOW=1; a library's name */
        if (!names_are_safe && strspn(path, "0123456789") != length)
            return;
        strcpy(real, path);
    } else if (path[0] != '/' || realpath(path, real) == NULL || !is_roots_alone(real)) {
        return;
    }
    if (*safe)
        strcat(safe, ":");
    strcat(safe, real);
}

/* Return what root may have of a variable's value: of each entry at most PATH_MAX. */
static char *safe_part(const char *name, const char *value)
{
    int libraries = begins(name, "LD_PRELOAD=") || begins(name, "LD_AUDIT=");
    const char *separators = libraries ? ": " : begins(name, "LD_LIBRARY_PATH=") ? ":;" : ":";
    size_t entries = 1;

    for (const char *each = value; *each; each++)
        entries += strchr(separators, *each) != NULL;
    char *safe = calloc(entries, PATH_MAX + 1);
    if (safe == NULL)
        return NULL;
    for (;;) {
        size_t length = strcspn(value, separators);
        append_safe(safe, value, length, libraries);
        if (value[length] == '\0')
            return safe;
        value += length + 1;
    }
}

/* Return the environment of root's Python; NULL where there is no memory. */
static char **for_root(void)
{
    size_t count = 0, used = 0;

    while (environ[count])
        count++;
    char **made = calloc(2 * count + 1, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        const char *value = strchr(environ[i], '=');
        char *safe;
        if (value == NULL || value[1] == '\0' || !is_followed(environ[i])) {
            made[used++] = environ[i];
            continue;
        }
        if ((safe = safe_part(environ[i], value + 1)) == NULL)
            return NULL;
        if (strcmp(safe, value + 1) == 0) {
            made[used++] = environ[i];
            continue;
        }
        if (asprintf(&made[used++], ASIDE "%s", environ[i]) < 0)
            return NULL;
        int name = (int)(value - environ[i]);
        if (*safe && asprintf(&made[used++], "%.*s=%s", name, environ[i], safe) < 0)
            return NULL;
    }
    return made;
}

int main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *called = argc > 0 ? (slash ? slash + 1 : argv[0]) : "launcher";
    int door = is_door(called);
    int is_entrypoint = door || strcmp(called, "entrypoint") == 0;
    char **environment = geteuid() == 0 ? for_root() : environ;
    char **arguments = calloc((size_t)argc + 5, sizeof *arguments);

    if (environment == NULL || arguments == NULL) {
        fputs("launcher: no memory to start with\n", stderr);
        return 70;
    }
    if (is_entrypoint) { /* a stop that comes while Python starts is kept; PID 1 would lose it */
        sigset_t stop;
        sigemptyset(&stop);
        sigaddset(&stop, SIGTERM);
        sigaddset(&stop, SIGINT);
        sigaddset(&stop, SIGQUIT);
        sigprocmask(SIG_BLOCK, &stop, NULL);
    }
    arguments[0] = PYTHON;
    arguments[1] = "-I"; /* imports nothing from the workspace, nor from the user's PYTHONPATH */
    arguments[2] = is_entrypoint ? HOME "/entrypoint.py" : HOME "/command.py";
    for (int i = door ? 0 : 1; i < argc; i++) /* a door's name says what is meant */
        arguments[2 + door + i] = argv[i];
    execve(PYTHON, arguments, environment);
    perror("launcher: cannot run " PYTHON);
    return 127;
}

// "smallfiles FOLDER N" makes N small files in a folder of its own below FOLDER, asks for their status several times,
// reads, lists and removes them, and prints "RATE what per-second" for each. Build: gcc -O2 -static
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { STATS = 4 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static const char *name(int i)
{
    static char text[64];
    snprintf(text, sizeof text, "file%05d", i);
    return text;
}

static void tell(const char *what, int count, double since)
{
    printf("RATE %s %.0f\n", what, count / (now() - since));
    fflush(stdout);
}

int main(int count, char **words)
{
    if (count < 3 || chdir(words[1]) || mkdir("small", 0755) || chdir("small")) fail("folder");
    int files = atoi(words[2]);
    char data[512] = "small", back[512];
    struct stat status;

    double since = now();
    for (int i = 0; i < files; i++) {
        int fd = open(name(i), O_CREAT | O_WRONLY | O_EXCL, 0644);
        if (fd < 0 || write(fd, data, sizeof data) != sizeof data || close(fd)) fail("create");
    }
    tell("create", files, since);

    since = now();
    for (int round = 0; round < STATS; round++)
        for (int i = 0; i < files; i++) if (stat(name(i), &status)) fail("stat");
    tell("stat", STATS * files, since);

    since = now();
    for (int i = 0; i < files; i++) {
        int fd = open(name(i), O_RDONLY);
        if (fd < 0 || read(fd, back, sizeof back) != sizeof back || close(fd)) fail("read");
    }
    tell("read", files, since);

    since = now();
    int seen = 0;
    DIR *folder = opendir(".");
    while (folder && readdir(folder)) seen++;
    if (seen != files + 2) fail("list");
    closedir(folder);
    tell("list", files, since);

    since = now();
    for (int i = 0; i < files; i++) if (unlink(name(i))) fail("unlink");
    tell("unlink", files, since);
    if (chdir("..") || rmdir("small")) fail("rmdir");
    return 0;
}

// "fileuse FOLDER" uses files below FOLDER as programs do: locks of other processes, files whose names are gone, maps,
// renames over open files, holes, appends, long listings. Prints "ok WHAT" or "FAILED WHAT: why" for each.
// "fileuse FOLDER private" leaves out maps that are written, which 9P has with cache=mmap alone.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 3000, PART = 1000 };

static int failures;

static void tell(const char *what, int isRight)
{
    if (isRight) printf("ok %s\n", what);
    else printf("FAILED %s: %s\n", what, strerror(errno));
    failures += !isRight;
    errno = 0;
}

static int make(const char *name, const char *text)
{
    int fd = open(name, O_CREAT | O_RDWR | O_TRUNC, 0644);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? fd : -1;
}

// Runs in a child, which opens the file anew; its answer.
static int elsewhere(int (*work)(int), const char *name)
{
    int status;
    pid_t child = fork();
    if (child == 0) _exit(work(open(name, O_RDWR)));
    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int tryFlock(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno == EWOULDBLOCK ? 1 : 2; }

static int tryFcntl(int fd)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10 };
    return fcntl(fd, F_SETLK, &lock) == 0 ? 0 : errno == EAGAIN || errno == EACCES ? 1 : 2;
}

static void locks(void)
{
    int fd = make("lock", "0123456789012345678901234567890");
    tell("flock", flock(fd, LOCK_EX) == 0 && elsewhere(tryFlock, "lock") == 1);
    tell("flock given back", flock(fd, LOCK_UN) == 0 && elsewhere(tryFlock, "lock") == 0);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1 };
    tell("fcntl lock", fcntl(fd, F_SETLK, &lock) == 0 && elsewhere(tryFcntl, "lock") == 1);
    lock.l_type = F_UNLCK;
    tell("fcntl lock given back", fcntl(fd, F_SETLK, &lock) == 0 && elsewhere(tryFcntl, "lock") == 0);
    close(fd);
}

static void names(void)
{
    char text[16] = "";
    struct stat status;
    int fd = make("gone", "still here");
    tell("a file without a name is read", unlink("gone") == 0 && pread(fd, text, 10, 0) == 10
        && !strcmp(text, "still here"));
    tell("a file without a name is written", pwrite(fd, "yes", 3, 0) == 3 && pread(fd, text, 10, 0) == 10
        && !strcmp(text, "yesll here"));
    tell("a file without a name has a status", fstat(fd, &status) == 0 && status.st_size == 10);
    tell("a file without a name is cut", ftruncate(fd, 3) == 0 && fstat(fd, &status) == 0 && status.st_size == 3);
    close(fd);
    int first = make("first", "first"), second = make("second", "second");
    close(second);
    tell("a name goes to another file", rename("second", "first") == 0 && pread(first, text, 5, 0) == 5
        && !memcmp(text, "first", 5) && stat("first", &status) == 0 && status.st_size == 6);
    close(first);
    tell("a file has two names", link("first", "third") == 0 && stat("third", &status) == 0 && status.st_nlink == 2);
    tell("a link leads where it says", symlink("third", "link") == 0 && stat("link", &status) == 0
        && status.st_size == 6 && readlink("link", text, sizeof text) == 5);
    tell("folders that are not empty stay", mkdir("full", 0755) == 0 && mkdir("full/sub", 0755) == 0
        && rmdir("full") < 0 && (errno == ENOTEMPTY || errno == EEXIST));
    tell("a folder moves", rename("full", "moved") == 0 && stat("moved/sub", &status) == 0);
}

static void data(int isMapped)
{
    struct stat status;
    char text[8] = "";
    int fd = make("map", "mapped file");
    char *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    tell("a map is read", map != MAP_FAILED && !memcmp(map, "mapped file", 11));
    if (isMapped) {
        char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        tell("a map is written", shared != MAP_FAILED && memcpy(shared, "M", 1) && msync(shared, 4096, MS_SYNC) == 0
            && munmap(shared, 4096) == 0 && pread(fd, text, 2, 0) == 2 && !strcmp(text, "Ma"));
    }
    close(fd);
    fd = make("hole", "");
    tell("a hole", pwrite(fd, "end", 3, 10 << 20) == 3 && fstat(fd, &status) == 0 && status.st_size == (10 << 20) + 3
        && pread(fd, text, 3, 5 << 20) == 3 && !memcmp(text, "\0\0", 3));
    tell("a file is cut", ftruncate(fd, 100) == 0 && fstat(fd, &status) == 0 && status.st_size == 100
        && fsync(fd) == 0 && fdatasync(fd) == 0);
    close(fd);
    fd = open("append", O_CREAT | O_WRONLY | O_APPEND, 0644);
    int other = open("append", O_WRONLY | O_APPEND);
    tell("two append", write(fd, "one", 3) == 3 && write(other, "two", 3) == 3 && write(fd, "three", 5) == 5
        && fstat(fd, &status) == 0 && status.st_size == 11);
    close(fd);
    close(other);
    struct timespec times[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1100000000 } }; // Linux 6.1's 9P has no finer
    tell("times", utimensat(AT_FDCWD, "append", times, 0) == 0 && stat("append", &status) == 0
        && status.st_mtim.tv_sec == 1100000000 && status.st_mtim.tv_nsec == 0);
}

// Some are removed while they are listed: each is seen once.
static void listing(void)
{
    static char seen[MANY];
    char name[32];
    int wrong = mkdir("many", 0755) != 0 || chdir("many") != 0, count = 0;
    for (int i = 0; i < MANY && !wrong; i++) {
        snprintf(name, sizeof name, "entry-%d", i);
        int fd = open(name, O_CREAT | O_WRONLY | O_EXCL, 0600);
        wrong |= fd < 0;
        close(fd);
    }
    tell("many files", !wrong);
    DIR *folder = opendir(".");
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        int i;
        if (sscanf(entry->d_name, "entry-%d", &i) != 1) continue;
        wrong |= i < 0 || i >= MANY || seen[i]++ > 0;
        if (count++ < PART) wrong |= unlink(entry->d_name) != 0;
    }
    tell("a listing while files go", folder && !wrong && count == MANY);
    rewinddir(folder);
    count = 0;
    while (readdir(folder)) count++;
    tell("a listing anew", count == MANY - PART + 2);
    closedir(folder);
    if (chdir("..")) tell("the way up", 0);
}

int main(int count, char **words)
{
    if (count < 2 || chdir(words[1])) return perror("fileuse"), 2;
    setvbuf(stdout, NULL, _IONBF, 0);
    locks();
    names();
    data(count < 3);
    listing();
    return failures > 0;
}

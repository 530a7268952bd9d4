// Many short connections. "connections serve PORT" takes them: reads what comes, answers a byte and closes.
// "connections open HOST PORT RATE SECONDS" opens that many a second, from eight processes, and prints
// "CONNECTIONS made failed seconds". Build: gcc -O2 -static
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 8 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void serve(int port)
{
    struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    int server = socket(AF_INET6, SOCK_STREAM, 0), on = 1;
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server, (struct sockaddr *)&any, sizeof any) || listen(server, 1024)) exit(1);
    for (int i = 0; i < 3; i++) if (!fork()) break;
    for (;;) {
        char request[64];
        int client = accept(server, NULL, NULL);
        if (client < 0) continue;
        if (read(client, request, sizeof request) > 0 && write(client, "!", 1) != 1) perror("write");
        close(client);
    }
}

static int one(const struct sockaddr_in *to)
{
    char answer;
    struct timeval patience = { .tv_sec = 5 };
    int client = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int works = client >= 0 && !connect(client, (const struct sockaddr *)to, sizeof *to)
        && write(client, "hello", 5) == 5 && read(client, &answer, 1) == 1 && read(client, &answer, 1) == 0;
    close(client);
    return works;
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "serve")) serve(atoi(words[2]));
    if (count != 6) return 2;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(words[3])) };
    inet_pton(AF_INET, words[2], &to.sin_addr);
    double rate = atof(words[4]) / WORKERS, seconds = atof(words[5]), start = now();
    long *results = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int worker = 0; worker < WORKERS; worker++) {
        if (fork()) continue;
        for (long i = 0; now() - start < seconds; i++) {
            double wait = start + i / rate - now();
            if (wait > 0) usleep(wait * 1e6);
            results[worker * 2 + !one(&to)]++;
        }
        return 0;
    }
    while (wait(NULL) > 0) { }
    long made = 0, failed = 0;
    for (int i = 0; i < WORKERS; i++) { made += results[i * 2]; failed += results[i * 2 + 1]; }
    printf("CONNECTIONS %ld %ld %.1f\n", made, failed, now() - start);
    return 0;
}

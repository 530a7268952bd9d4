// The way into main for every glibc. Up to 2.33 the program gave __libc_start_main a function that calls its
// constructors, and no other code called them; the start files of later versions give none, and __libc_start_main of
// version 2.34 calls them itself. Given one, it calls that alone, so that this here suits both. The linker puts it
// between (--wrap).

typedef void constructor(int, char **, char **);

extern constructor *__preinit_array_start[], *__preinit_array_end[], *__init_array_start[], *__init_array_end[];
#pragma GCC visibility push(hidden)
extern void _init(void);
#pragma GCC visibility pop

static void initialize(int argc, char **argv, char **environment)
{
    for (constructor **each = __preinit_array_start; each < __preinit_array_end; each++)
        (*each)(argc, argv, environment);
    _init();
    for (constructor **each = __init_array_start; each < __init_array_end; each++)
        (*each)(argc, argv, environment);
}

int __real___libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
    constructor *init, void (*fini)(void),
                             void (*loader_fini)(void), void *stack_end);

int __wrap___libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
    constructor *init, void (*fini)(void),
                             void (*loader_fini)(void), void *stack_end)
{
    (void)init, (void)fini;
    return __real___libc_start_main(main, argc, argv, initialize, 0, loader_fini, stack_end);
}

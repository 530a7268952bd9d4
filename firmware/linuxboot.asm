; Boots a Linux kernel that the emulator offers in fw_cfg (its -kernel, -initrd and -append options).
;
; The emulator has split the bzImage into its real-mode part ("setup") and the kernel proper, has chosen all addresses,
; and has filled in the setup header's fields that belong to a boot loader (type_of_loader, loadflags, heap_end_ptr,
; ramdisk_image, ramdisk_size, cmd_line_ptr), as the kernel's version of the protocol has them. The command line lies
; where the heap ends. Here remains what only the guest's CPU can do.
;
; [BOOT] Linux, Documentation/x86/boot.rst, "Running the Kernel"

%include "rom.inc"

        rom_header "Linux kernel (direct boot)"

boot:   use_own_stack
        mov     ax, SETUP_SIZE
        call    number
        test    eax, eax
        jnz     .load
        int     0x18                    ; [BBS] nothing to boot here: try the next device
.load:
        load    SETUP
        load    CMDLINE
        load    KERNEL
        load    INITRD                  ; size 0 when there is none

        ; [BOOT] "At entry, ds = es = ss should point to the beginning of the real-mode kernel code, sp should be set up
        ; properly, normally pointing to the top of the heap, and all interrupts should be disabled"; it also asks for
        ; fs and gs, and the entry is 0x20 paragraphs further on.
        mov     ax, CMDLINE_ADDR
        call    number
        mov     ebx, eax
        mov     ax, SETUP_ADDR
        call    number
        sub     bx, ax                  ; the end of the heap; 64 KiB become 0
        sub     bx, 16                  ; room for the far jump below
        shr     eax, 4
        cli
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     sp, bx
        add     ax, 0x20
        push    ax
        push    word 0
        retf

        fw_cfg_routines
        rom_tail

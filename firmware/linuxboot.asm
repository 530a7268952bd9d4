; Boots a Linux kernel that the emulator offers in fw_cfg (its -kernel, -initrd and -append options).
;
; The emulator has split the bzImage into its real-mode part ("setup") and the kernel proper, has chosen all addresses,
; and has filled in the setup header's fields that belong to a boot loader (type_of_loader, loadflags, heap_end_ptr,
; ramdisk_image, ramdisk_size, cmd_line_ptr). Here remains what only the guest's CPU can do.
;
; [BOOT] Linux, Documentation/x86/boot.rst, "Running the Kernel", protocol 2.01 or later (for heap_end_ptr)

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
        mov     ax, SETUP_ADDR
        call    number
        shr     eax, 4
        cli
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        mov     sp, [0x224]             ; heap_end_ptr: the end of the heap, less 0x200; room for the far jump below
        add     sp, 0x200 - 16
        add     ax, 0x20
        push    ax
        push    word 0
        retf

        fw_cfg_routines
        rom_tail

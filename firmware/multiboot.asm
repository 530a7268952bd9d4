; Boots a Multiboot 1 kernel that the emulator offers in fw_cfg (its -kernel option, when the file has the header).
;
; The emulator has laid out the kernel's segments as one block for KERNEL_ADDR, its modules as one for SETUP_ADDR, and a
; block with the Multiboot information structure at its start for INITRD_ADDR, below 640 KiB so that real mode reaches
; it; command line and module list lie behind it, with addresses already filled in. The memory map is filled in here,
; because the BIOS alone knows what it has kept for itself: the emulator sets flags bits 0 and 6 and points mmap_addr to
; room for 32 entries of 24 bytes below 640 KiB. The kernel comes last, when the BIOS and our stack are needed no
; longer: it may lie anywhere but over the information, behind whose 120 bytes is room for the DMA descriptor that
; fetches it.
;
; [MB] Multiboot Specification 0.6.96, 3.2 "Machine state" and 3.3 "Boot information format"

%include "rom.inc"

MBI_MEM_LOWER   equ 4
MBI_MEM_UPPER   equ 8
MBI_MMAP_LENGTH equ 44
MBI_MMAP_ADDR   equ 48
MBI_DESCRIPTOR  equ 120                 ; ours

        rom_header "Multiboot kernel (direct boot)"

boot:   use_own_stack
        mov     ax, KERNEL_SIZE
        call    number
        test    eax, eax
        jnz     .load
        int     0x18                    ; [BBS] nothing to boot here: try the next device
.load:
        load    INITRD
        load    SETUP                   ; size 0 when there are no modules

        mov     ax, INITRD_ADDR
        call    number
        mov     esi, eax                ; kept until the end: goes to the kernel in EBX
        shr     eax, 4
        mov     ds, ax                  ; DS:BX = the information structure
        mov     bx, si
        and     bx, 15

        ; mem_lower and mem_upper, in KiB: memory from 0, and from 1 MiB up to the first hole.
        int     0x12
        movzx   eax, ax
        mov     [bx + MBI_MEM_LOWER], eax
        push    bx
        mov     ax, 0xE801              ; AX: KiB from 1 to 16 MiB; BX: 64 KiB units from 16 MiB
        int     0x15
        movzx   eax, ax
        movzx   ecx, bx
        shl     ecx, 6
        add     eax, ecx
        pop     bx
        mov     [bx + MBI_MEM_UPPER], eax

        ; The memory map: a size field of 20 and then what INT 15h, AX = E820h answers, over and over.
        mov     eax, [bx + MBI_MMAP_ADDR]
        mov     di, ax
        and     di, 15
        shr     eax, 4
        mov     es, ax
        mov     bp, di                  ; where it starts
        push    bx
        xor     ebx, ebx                ; continuation value: 0 for the first and after the last entry
.entry: mov     dword [es:di], 20
        add     di, 4
        mov     eax, 0xE820
        mov     edx, "PAMS"             ; 'SMAP', as its number is written
        mov     ecx, 20
        int     0x15
        jc      .unget                  ; asked past the end
        add     di, 20
        lea     ax, [bp + 32 * 24]
        cmp     di, ax
        jae     .mapped
        test    ebx, ebx
        jnz     .entry
        jmp     .mapped
.unget: sub     di, 4
.mapped:
        pop     bx
        sub     di, bp
        movzx   edi, di
        mov     [bx + MBI_MMAP_LENGTH], edi

        ; The descriptor for the kernel, all big-endian: control, length, address.
        mov     eax, KERNEL_DATA << 16 | 1 << 3 | 1 << 1        ; select it, read
        bswap   eax
        mov     [bx + MBI_DESCRIPTOR], eax
        mov     ax, KERNEL_SIZE
        call    number
        bswap   eax
        mov     [bx + MBI_DESCRIPTOR + 4], eax
        mov     dword [bx + MBI_DESCRIPTOR + 8], 0
        mov     ax, KERNEL_ADDR
        call    number
        bswap   eax
        mov     [bx + MBI_DESCRIPTOR + 12], eax

        mov     ax, KERNEL_ENTRY
        call    number
        mov     ebx, eax
        mov     ax, 0x2401              ; [MB] "A20 gate: must be enabled"
        int     0x15

        ; Protected mode. All addresses are made at run time, for the BIOS chose this ROM's segment.
        cli
        xor     edi, edi
        mov     di, cs
        shl     edi, 4
        lea     eax, [edi + gdt]
        push    eax
        push    word gdt.end - gdt - 1   ; the limit lies below the base, as lgdt reads them
        mov     bp, sp
        o32 lgdt [bp]
        lea     eax, [edi + flat]
        push    dword 0x08
        push    eax
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        o32 retf

        bits    32
flat:   mov     ax, 0x10
        mov     ds, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        mov     ss, ax
        ; [FW_CFG] The kernel: the descriptor's address, its lower half last.
        xor     eax, eax
        mov     dx, 0x514
        out     dx, eax
        lea     eax, [esi + MBI_DESCRIPTOR]
        bswap   eax
        mov     dx, 0x518
        out     dx, eax
.wait:  mov     eax, [esi + MBI_DESCRIPTOR]
        test    eax, eax                ; 0 when done
        jnz     .wait
        mov     ecx, ebx
        mov     ebx, esi
        mov     eax, 0x2BADB002
        jmp     ecx
        bits    16

        fw_cfg_routines

        align   8, db 0
; The segments are marked accessed already: the processor would set that bit, and the ROM is write-protected by now.
gdt:    dq      0
        dq      0x00CF9B000000FFFF      ; 0x08: code, base 0, limit 4 GiB, 32 bit
        dq      0x00CF93000000FFFF      ; 0x10: data, the same
.end:
        rom_tail

; A Multiboot 1 kernel that prints what it was given on COM1 and on the debug console (port 0xE9), and then ends the
; emulator through isa-debug-exit (iobase 0x501), exit status 33, or halts:
;   multiboot ok flags=0000024F lower=0000027F upper=0001FB80 map=00000090 mods=00000000 cmdline=…
; Built three times: as ELF, as a flat file whose header says by itself where to load it (flags bit 16), and as one that
; fills low memory from 8000h to E000h, looks whether all of it has arrived, and asks for a video mode (flags bit 2).
        bits    32

%ifndef LOAD
LOAD    equ     0x100000
%endif
%ifidn __?OUTPUT_FORMAT?__, bin
        org     LOAD
%if LOAD < 0x100000
FLAGS   equ     1 << 16 | 1 << 2 | 1 << 1
%else
FLAGS   equ     1 << 16 | 1 << 1
%endif
%else
FLAGS   equ     1 << 1                  ; bit 1: wants mem_lower, mem_upper and the memory map
        global  start
%endif
MAGIC   equ     0x1BADB002

        section .text
image:  jmp     start
        align   4
header: dd      MAGIC, FLAGS, -(MAGIC + FLAGS)
        dd      header, image, image_end, image_end + 4096, start
        dd      0, 1024, 768, 32        ; the video mode, with flags bit 2

start:  cld
        mov     esp, image_end + 4096   ; the stack is the "bss", so that clearing it is seen to be done or not
        mov     esi, bad
        cmp     eax, 0x2BADB002
        jne     .say
%if LOAD < 0x100000
        mov     edi, filling
        mov     ecx, filling.end - filling
        mov     al, 0xA5
        repe scasb
        jne     .say
%endif
        mov     esi, ok
.say:   call    print
        mov     edi, fields
.field: movzx   ecx, byte [edi]         ; offset in the information structure, then the name
        cmp     cl, 0xFF
        je      .cmdline
        lea     esi, [edi + 1]
        call    print
        mov     edi, esi
        mov     eax, [ebx + ecx]
        call    print_hex
        jmp     .field
.cmdline:
        lea     esi, [edi + 1]
        call    print
        mov     esi, [ebx + 16]
        test    byte [ebx], 1 << 2      ; flags bit 2: cmdline is valid
        jz      .end
        call    print
.end:   mov     esi, newline
        call    print
        mov     al, 0x10
        mov     dx, 0x501
        out     dx, al
        cli
.halt:  hlt
        jmp     .halt

; print: the string at ESI; leaves ESI behind its final zero.
print:  lodsb
        test    al, al
        jz      .done
        call    put
        jmp     print
.done:  ret

; print_hex: EAX as eight digits.
print_hex:
        mov     ecx, 8
        xchg    eax, ebp
.digit: rol     ebp, 4
        mov     eax, ebp
        and     al, 15
        cmp     al, 10
        sbb     al, 0x69                ; 0..9, 10..15 become '0'..'9', 'A'..'F'
        das
        call    put
        loop    .digit
        ret

put:    mov     ah, al
        mov     dx, 0x3F8 + 5
.wait:  in      al, dx
        test    al, 0x20
        jz      .wait
        mov     al, ah
        mov     dx, 0x3F8
        out     dx, al
        out     0xE9, al
        ret

ok      db      "multiboot ok", 0
bad     db      "multiboot BAD", 0
fields  db      0,  " flags=", 0
        db      4,  " lower=", 0
        db      8,  " upper=", 0
        db      44, " map=", 0
        db      20, " mods=", 0
        db      0xFF, " cmdline=", 0
newline db      13, 10, 0
%if LOAD < 0x100000
filling:
        times   0x5000 - ($ - image) db 0xA5
.end:
%endif
        align   4
image_end:
%ifnidn __?OUTPUT_FORMAT?__, bin
        section .bss
        resb    4096
%endif

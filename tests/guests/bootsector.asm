; A boot sector that says "boot sector ok" on COM1 and, through the video BIOS, on the screen, and then ends the
; emulator through isa-debug-exit (-device isa-debug-exit,iobase=0x501: exit status 2 * 0x10 + 1 = 33), or halts.
        bits    16
        org     0x7C00

COM1    equ     0x3F8

start:  jmp     0:.here                 ; some BIOSes start us at 07C0:0000
.here:  xor     ax, ax
        mov     ds, ax
        mov     ss, ax
        mov     sp, 0x7C00
        cld
        mov     si, message
.next:  lodsb
        test    al, al
        jz      .end
        mov     ah, 0x0E                ; INT 10h: teletype output, page 0
        mov     bx, 7
        push    ax
        int     0x10
        mov     dx, COM1 + 5            ; wait until the transmitter is empty (LSR bit 5)
.wait:  in      al, dx
        test    al, 0x20
        jz      .wait
        pop     ax
        mov     dx, COM1
        out     dx, al
        jmp     .next
.end:   mov     al, 0x10
        mov     dx, 0x501
        out     dx, al
        cli
.halt:  hlt
        jmp     .halt

message db      "boot sector ok", 13, 10, 0

        times   510 - ($ - $$) db 0
        dw      0xAA55

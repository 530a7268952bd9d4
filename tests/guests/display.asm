; A multiboot kernel that paints: 1024x768 in 32 bits on a Bochs VBE card. It obeys bytes on COM1: 'a' and 'b' fill the
; screen with one of two pictures (plain areas, text, a gradient, noise), and 'd' answers when it is done; 's' scrolls
; lines of text, one each tick of 10 ms, until 'q'; an idle guest halts between its ticks.
        bits    32
        org     0x100000

MAGIC   equ     0x1BADB002
FLAGS   equ     1 << 16                 ; the addresses below are good
COM1    equ     0x3F8
WIDTH   equ     1024
HEIGHT  equ     768
PICTURE equ     0x2000000               ; two of them
SIZE    equ     WIDTH * HEIGHT * 4
LINES   equ     0x2800000               ; 128 lines of text
LINE    equ     WIDTH * 16 * 4
HERTZ   equ     100

header: dd      MAGIC, FLAGS, -(MAGIC + FLAGS), header, header, 0, 0, start

start:  cli
        cld
        mov     esp, 0x90000
        mov     ebx, 0x80000000         ; PCI: the card of vendor 1234h
.find:  mov     eax, ebx
        call    config
        cmp     eax, 0x11111234
        je      .found
        add     ebx, 1 << 11
        jmp     .find
.found: lea     eax, [ebx + 0x10]
        call    config
        and     eax, ~15
        mov     [screen], eax
        mov     esi, modes
.mode:  lodsd                           ; index and value of a VBE register
        mov     dx, 0x1CE
        out     dx, ax
        shr     eax, 16
        inc     dx
        out     dx, ax
        cmp     esi, modes.end
        jb      .mode

        mov     edi, PICTURE
        xor     ebp, ebp
        call    picture
        mov     ebp, 5
        call    picture
        mov     edi, LINES              ; glyphs of 8 by 16
        xor     ecx, ecx
.line:  mov     edx, ecx
        shr     edx, 10
        mov     ebp, edx
        shr     ebp, 4
        call    glyph
        stosd
        inc     ecx
        cmp     ecx, WIDTH * 16 * 128
        jb      .line

        lgdt    [gdt.pointer]
        jmp     8:.gate
.gate:  mov     ax, 16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     eax, tick
        mov     [idt + 32 * 8], ax
        mov     word [idt + 32 * 8 + 2], 8
        mov     word [idt + 32 * 8 + 4], 0x8E00
        shr     eax, 16
        mov     [idt + 32 * 8 + 6], ax
        lidt    [idt.pointer]
        mov     esi, chips
.chip:  lodsw                           ; port and value: interrupt controllers and timer
        mov     dx, ax
        lodsb
        out     dx, al
        cmp     esi, chips.end
        jb      .chip

again:  sti
        hlt
        mov     dx, COM1 + 5
        in      al, dx
        test    al, 1
        jz      .scroll
        mov     dx, COM1
        in      al, dx
        cmp     al, 's'
        sete    [scrolls]
        mov     esi, PICTURE
        cmp     al, 'a'
        je      .fill
        add     esi, SIZE
        cmp     al, 'b'
        jne     again
.fill:  mov     edi, [screen]
        mov     ecx, WIDTH * HEIGHT
        rep     movsd
        mov     al, 'd'
        mov     dx, COM1
        out     dx, al
.scroll:
        cmp     byte [scrolls], 0
        je      again
        mov     edi, [screen]
        lea     esi, [edi + LINE]
        mov     ecx, WIDTH * (HEIGHT - 16)
        rep     movsd
        inc     byte [count]
        movzx   esi, byte [count]
        and     esi, 127
        imul    esi, LINE
        add     esi, LINES
        mov     ecx, WIDTH * 16
        rep     movsd
        jmp     again

tick:   push    eax
        mov     al, 0x20
        out     0x20, al
        pop     eax
        iret

config: mov     dx, 0xCF8
        out     dx, eax
        mov     dl, 0xFC
        in      eax, dx
        ret

; EAX: the pixel of a glyph at ECX (the low ten bits: x), EDX (the low four bits: y) of text EBP.
glyph:  mov     eax, ecx
        and     eax, 1023
        shr     eax, 3
        imul    eax, eax, 0x45D9F3B
        add     eax, ebp
        imul    eax, eax, 0x2C1B3C6D
        mov     ebx, eax
        shr     ebx, 15
        xor     eax, ebx
        imul    eax, eax, 0x297A2D39
        mov     ebx, edx
        shr     ebx, 1
        imul    ebx, ebx, 5
        xor     ebx, ecx
        push    ecx
        mov     cl, bl
        rol     eax, cl
        pop     ecx
        sar     eax, 31
        and     eax, 0xAAAAAA
        ret

; A picture of kind EBP at EDI, which moves behind it.
picture:
        xor     ecx, ecx
.next:  mov     edx, ecx
        shr     edx, 10
        mov     eax, edx                ; areas of 128 by 128
        shr     eax, 7
        imul    eax, eax, 3
        mov     ebx, ecx
        shr     ebx, 7
        and     ebx, 7
        add     eax, ebx
        add     eax, ebp
        and     eax, 7
        cmp     eax, 3
        jb      .plain
        cmp     eax, 6
        jb      .text
        je      .gradient
        mov     eax, ecx
        add     eax, ebp
        imul    eax, eax, 0x9E3779B1
        jmp     .store
.plain: imul    eax, eax, 0x203040
        add     eax, 0x305070
        jmp     .store
.text:  push    ebp
        shl     ebp, 10
        mov     eax, edx
        shr     eax, 4
        add     ebp, eax
        call    glyph
        pop     ebp
        jmp     .store
.gradient:
        mov     eax, ecx
        shl     eax, 16
        mov     al, dl
        mov     ah, dl
.store: and     eax, 0xFFFFFF
        stosd
        inc     ecx
        cmp     ecx, WIDTH * HEIGHT
        jb      .next
        ret

        align   4
screen: dd      0
count:  db      0
scrolls: db     0

modes:  dw      4, 0, 1, WIDTH, 2, HEIGHT, 3, 32, 4, 0x41
.end:

%macro  port    2
        dw      %1
        db      %2
%endmacro
chips:  port    0x20, 0x11
        port    0x21, 32
        port    0x21, 4
        port    0x21, 1
        port    0x21, 0xFE
        port    0xA1, 0xFF
        port    0x43, 0x34
        port    0x40, (1193182 / HERTZ) & 255
        port    0x40, (1193182 / HERTZ) >> 8
        port    COM1 + 1, 0
        port    COM1 + 3, 3
        port    COM1 + 4, 3
.end:

        align   8
gdt:    dq      0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF
.pointer:
        dw      $ - gdt - 1
        dd      gdt
idt:    times   64 dq 0
.pointer:
        dw      $ - idt - 1
        dd      idt

; A kernel of Linux' boot protocol 2.00, a zImage: a boot sector, setup code that wants to lie at 90000h, and code at
; 10000h. It prints on COM1 what it was given, and then ends the emulator through isa-debug-exit (iobase 0x501), exit
; status 33:
;   zimage ok one two
; [BOOT] Linux, Documentation/x86/boot.rst
        bits    16
        org     0

        times   0x1F1 - ($ - $$) db 0
        db      1                       ; setup_sects
        times   0x1FE - ($ - $$) db 0
        dw      0xAA55
        jmp     short setup             ; [BOOT] the entry, 200h
        db      "HdrS"
        dw      0x0200                  ; version
        times   0x211 - ($ - $$) db 0
        db      0                       ; loadflags: LOADED_HIGH is clear
        times   0x240 - ($ - $$) db 0
setup:  mov     ax, ds
        cmp     ax, 0x9000
        jne     .halt
        jmp     0x1000:0
.halt:  hlt
        jmp     .halt

        times   1024 - ($ - $$) db 0
        section kernel vstart=0 align=1
        mov     cx, cs
        mov     fs, cx
        mov     si, bad
        cmp     word [0x20], 0xA33F     ; the magic of the command line, before protocol 2.02
        jne     .say
        mov     si, ok
.say:   mov     al, [fs:si]
        inc     si
        call    put
        test    al, al
        jnz     .say
        mov     si, [0x22]
.line:  lodsb
        call    put
        test    al, al
        jnz     .line
        mov     al, 13
        call    put
        mov     al, 10
        call    put
        mov     al, 0x10
        mov     dx, 0x501
        out     dx, al
        cli
        hlt

put:    test    al, al
        jz      .done
        mov     ah, al
        mov     dx, 0x3F8 + 5
.wait:  in      al, dx
        test    al, 0x20
        jz      .wait
        mov     al, ah
        mov     dx, 0x3F8
        out     dx, al
.done:  ret

ok      db      "zimage ok ", 0
bad     db      "zimage BAD ", 0
        times   512 - ($ - $$) db 0

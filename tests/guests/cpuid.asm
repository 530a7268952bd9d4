; A firmware of 64 KiB (-bios) that prints what CPUID says on every processor: on COM1 a line for each leaf and subleaf,
; "APIC leaf subleaf eax ebx ecx edx" in hexadecimal, where APIC is the id that leaf 1 shows. CPUS processors are waited
; for. Then it ends the machine by port F4h (-device isa-debug-exit).

%ifndef CPUS
%define CPUS 1
%endif

TAKEN:  equ     0x1000                  ; 0: nobody prints
COUNT:  equ     0x1004                  ; processors that have come here
STACKS: equ     0x8000
APIC:   equ     0xFEE00000
COM1:   equ     0x3F8

        bits    16
        org     0
; F000:0000, where the boot processor begins by way of the reset vector, the others by SIPI.
start:  cli
        mov     ax, cs
        mov     ds, ax
        o32 lgdt [gdtr]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword 8:0xF0000 + flat

        bits    32
flat:   mov     ax, 16
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     eax, 1
        lock xadd [COUNT], eax
        mov     ebp, eax                ; 0: the boot processor
        shl     eax, 8
        lea     esp, [eax + STACKS]
.enter: mov     al, 1
        xchg    [TAKEN], al
        test    al, al
        jz      .entered
        pause
        jmp     .enter
.entered:
        call    dump
        mov     byte [TAKEN], 0
        test    ebp, ebp
        jnz     .halt
%if CPUS > 1
        mov     dword [APIC + 0xF0], 0x1FF
        mov     dword [APIC + 0x300], 0xC4500       ; INIT to all others
        mov     ecx, 100000
.init:  in      al, 0x80
        dec     ecx
        jnz     .init
        mov     dword [APIC + 0x300], 0xC46F0       ; SIPI: F0000h
.wait:  pause
        cmp     dword [COUNT], CPUS
        jb      .wait
.last:  mov     al, 1                   ; who came has the lock, or will have it before us
        xchg    [TAKEN], al
        test    al, al
        jnz     .last
        cmp     dword [DONE], CPUS
        mov     byte [TAKEN], 0
        jb      .last
%endif
        out     0xF4, al
        jmp     $                       ; the machine ends meanwhile
.halt:  hlt
        jmp     .halt

DONE:   equ     0x1008

; All leaves of the three ranges, as far as their first leaf says; of those with subleaves, as many as tell anything.
dump:   mov     eax, 1
        xor     ecx, ecx
        cpuid
        shr     ebx, 24
        mov     edi, ebx                ; the APIC id
        xor     esi, esi
        call    range
        mov     esi, 0x40000000
        call    range
        mov     esi, 0x80000000
        call    range
        inc     dword [DONE]
        ret

; Leaves from ESI to the limit that it says itself, no more than 256.
range:  mov     eax, esi
        xor     ecx, ecx
        cpuid
        mov     edx, eax
        sub     edx, esi
        cmp     edx, 0x100
        jb      .bounded
        xor     edx, edx
.bounded:
        add     edx, esi
        push    edx
.next:  xor     ecx, ecx
.sub:   call    line
        inc     ecx
        mov     edx, esi
        call    subleaves
        cmp     ecx, edx
        jb      .sub
        inc     esi
        cmp     esi, [esp]
        jbe     .next
        pop     edx
        ret

; EDX: how many subleaves leaf EDX has.
subleaves:
        push    ebx
        mov     ebx, 0xF0000 + counts
.look:  cmp     dword [ebx], -1
        je      .found
        cmp     [ebx], edx
        je      .found
        add     ebx, 8
        jmp     .look
.found: mov     edx, [ebx + 4]
        pop     ebx
        ret

        align   4
counts: dd      4, 6, 7, 3, 0xB, 4, 0xD, 20, 0xF, 2, 0x10, 4, 0x12, 4, 0x14, 2, 0x17, 4, 0x18, 2, 0x1D, 2, 0x1F, 6
        dd      0x8000001D, 6, -1, 1

line:   push    ecx
        mov     eax, edi
        call    hex
        mov     eax, esi
        call    hex
        mov     eax, ecx
        call    hex
        mov     eax, esi
        cpuid
        push    edx
        push    ecx
        push    ebx
        call    hex
        pop     eax
        call    hex
        pop     eax
        call    hex
        pop     eax
        call    hex
        mov     al, 10
        call    put
        pop     ecx
        ret

; EAX, and a blank.
hex:    push    ecx
        mov     ecx, 8
.digit: rol     eax, 4
        push    eax
        and     al, 15
        cmp     al, 10
        sbb     al, 0x69
        das
        call    put
        pop     eax
        dec     ecx
        jnz     .digit
        mov     al, ' '
        call    put
        pop     ecx
        ret

; AL to COM1.
put:    push    edx
        push    eax
        mov     edx, COM1 + 5
.busy:  in      al, dx
        test    al, 0x20
        jz      .busy
        pop     eax
        mov     edx, COM1
        out     dx, al
        pop     edx
        ret

        align   8
gdt:    dq      0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
gdtr:   dw      gdtr - gdt - 1
        dd      0xF0000 + gdt

        times   0xFFF0 - ($ - $$) db 0
        bits    16
        jmp     0xF000:start
        times   0x10000 - ($ - $$) db 0

; The firmware under which user programs of the public suites run on the emulated processor: it copies itself and the
; image before it to RAM, enters 64-bit mode, runs the program in ring 3 and writes the processor's state, as the first
; exception finds it, to the debug console (port 0xE9); then it ends the emulator through isa-debug-exit (port 0x501).
; machine.py builds the image: page tables, the program's pages and the parameters at its start.
        default rel
        org     0xFFFF0000              ; the last 64 KiB of ROM; with paging on, their copy in RAM

IMAGE   equ     0x100000                ; where the copy begins: parameters, page tables, pages
P_CR3   equ     0                       ; the parameters, quadwords
P_ENTRY equ     8
P_CS    equ     16
P_DATA  equ     24                      ; selector for DS and ES: null in 64-bit mode
P_RSP   equ     32
P_DUMP  equ     40                      ; memory to write after the state: address and length
P_LEN   equ     48

        bits    16
image_size:
        dd      0                       ; put here by machine.py
start:  o32 lgdt [cs:boot_gdtr - $$]
        mov     eax, cr0
        or      al, 1
        mov     cr0, eax
        jmp     dword CODE32:protected

        bits    32
protected:
        mov     eax, KERNEL_DATA
        mov     ds, eax
        mov     es, eax
        mov     ss, eax
        mov     ecx, [image_size]
        mov     esi, $$
        sub     esi, ecx
        mov     edi, IMAGE
        add     ecx, 0x10000
        shr     ecx, 2
        rep movsd
        mov     eax, [IMAGE + P_CR3]
        mov     cr3, eax
        mov     eax, 1 << 18 | 1 << 16 | 1 << 10 | 1 << 9 | 1 << 5  ; OSXSAVE, FSGSBASE, OSXMMEXCPT, OSFXSR, PAE
        mov     cr4, eax
        mov     ecx, 0xC0000080         ; EFER: SCE, LME
        mov     eax, 1 << 8 | 1
        xor     edx, edx
        wrmsr
        mov     eax, 1 << 31 | 1 << 18 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1 ; PG, AM, WP, NE, ET, MP, PE
        mov     cr0, eax
        jmp     CODE64:long_mode

        bits    64
long_mode:
        lgdt    [gdtr]
        lidt    [idtr]
        mov     eax, TSS
        ltr     ax
        xor     eax, eax
        lldt    ax
        mov     eax, 0xD                ; x87, SSE and, where it is, AVX
        xor     ecx, ecx
        cpuid
        and     eax, 7
        xor     edx, edx
        xor     ecx, ecx
        xsetbv
        fninit
        mov     ebx, IMAGE_VIRTUAL
        mov     rax, [rbx + P_DATA]
        mov     ds, eax
        mov     es, eax
        xor     ecx, ecx
        mov     fs, ecx
        mov     gs, ecx
        lea     rsp, [stack_top]
        push    USER_DATA | 3
        push    qword [rbx + P_RSP]
        push    0x202
        push    qword [rbx + P_CS]
        push    qword [rbx + P_ENTRY]
        xor     eax, eax
        xor     edx, edx
        xor     ebx, ebx
        xor     ebp, ebp
        xor     esi, esi
        xor     edi, edi
%assign n 8
%rep 8
        xor     r %+ n, r %+ n
%assign n n + 1
%endrep
        iretq

; One stub per vector: those without an error code push zero.
%assign v 0
%rep 32
stub %+ v:
%if !(v == 8 || v >= 10 && v <= 14 || v == 17 || v == 21 || v == 29 || v == 30)
        push    0
%endif
        push    v
        jmp     stopped
%assign v v + 1
%endrep

stopped:
        mov     [s_rax], rax
        mov     [s_rcx], rcx
        mov     [s_rdx], rdx
        mov     [s_rbx], rbx
        mov     [s_rbp], rbp
        mov     [s_rsi], rsi
        mov     [s_rdi], rdi
%assign n 8
%rep 8
        mov     [s_r8 + (n - 8) * 8], r %+ n
%assign n n + 1
%endrep
        pop     qword [s_vector]
        pop     qword [s_error]
        pop     qword [s_rip]
        pop     qword [s_cs]
        pop     qword [s_rflags]
        pop     qword [s_rsp]
        pop     qword [s_ss]
        mov     rax, cr2
        mov     [s_cr2], rax
        rdfsbase rax
        mov     [s_fsbase], rax
        rdgsbase rax
        mov     [s_gsbase], rax
        mov     ax, ds
        mov     [s_ds], ax
        cmp     dword [s_vector], 13    ; #GP: HLT in ring 3 is how a program ends
        jne     .no_code
        mov     rax, [s_rip]
        mov     al, [rax]
        mov     [s_code], al
.no_code:
        mov     eax, 7
        xor     edx, edx
        xsave64 [s_xsave]
        cld
        lea     rsi, [state]
        mov     ecx, state_end - state
        mov     edx, 0xE9
        rep outsb
        mov     ebx, IMAGE_VIRTUAL
        mov     rsi, [rbx + P_DUMP]
        mov     rcx, [rbx + P_LEN]
        rep outsb
        mov     edx, 0x501
        out     dx, al
        hlt

        align   16
boot_gdtr:
        dw      gdt_end - gdt - 1
        dd      gdt
gdtr:   dw      gdt_end - gdt - 1
        dq      gdt
idtr:   dw      idt_end - idt - 1
        dq      idt

; Selectors of user segments are those of Linux: programs see them.
        align   16
gdt:    dq      0
CODE32  equ     $ - gdt
        dq      0x00CF9B000000FFFF
CODE64  equ     $ - gdt
        dq      0x00AF9B000000FFFF
KERNEL_DATA equ $ - gdt
        dq      0x00CF93000000FFFF
USER_CODE32 equ $ - gdt                 ; 0x20
        dq      0x00CFFB000000FFFF
USER_DATA equ   $ - gdt                 ; 0x28
        dq      0x00CFF3000000FFFF
USER_CODE64 equ $ - gdt                 ; 0x30
        dq      0x00AFFB000000FFFF
TSS     equ     $ - gdt
        dw      tss_end - tss - 1, tss - $$
        db      0xFF, 0x89, 0, 0xFF     ; base 0xFFFFxxxx, available 64-bit TSS
        dq      0
gdt_end:

        align   16
idt:
%assign v 0
%rep 32
        dw      stub %+ v - $$, CODE64
        db      0, 0x8E | (v == 3 || v == 4) * 0x60     ; INT3 and INTO are for everyone
        dw      0xFFFF
        dq      0
%assign v v + 1
%endrep
idt_end:

        align   16
tss:    dd      0
        dq      stack_top               ; RSP0
        times   104 - 12 db 0
tss_end:

        align   64
state:                                  ; what machine.py reads, in this order
s_vector: dq    0
s_error: dq     0
s_code: dq      0                       ; the byte at RIP
s_cr2:  dq      0
s_rip:  dq      0
s_cs:   dq      0
s_rflags: dq    0
s_ss:   dq      0
s_ds:   dq      0
s_fsbase: dq    0
s_gsbase: dq    0
s_rax:  dq      0
s_rcx:  dq      0
s_rdx:  dq      0
s_rbx:  dq      0
s_rsp:  dq      0
s_rbp:  dq      0
s_rsi:  dq      0
s_rdi:  dq      0
s_r8:   times 8 dq 0
        align   64, db 0
s_xsave: times 832 db 0                 ; legacy region, header, YMM halves (SDM volume 1, section 13.4)
state_end:
        times   2048 db 0
        align   16
stack_top:

IMAGE_VIRTUAL equ 0xFFFE0000            ; the parameters' page

        times   0xFFF0 - ($ - $$) db 0
        bits    16
        jmp     start
        times   0x10000 - ($ - $$) db 0

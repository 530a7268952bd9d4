namespace Qkvm.Completion;

/// <summary>What each shell asks, and how it takes the answers. They need nothing beside the shell.</summary>
static class Shells
{
    /// <summary>bash breaks words at = and :, so that answers lose what stands before the last of them. Source:
    /// bash(1), "Programmable Completion", COMP_WORDBREAKS.</summary>
    public const string Bash = """
        _qkvm() {
            local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} answer word name
            local -a words
            read -ra words <<<"$line"
            [[ $line == *[[:space:]] ]] && words+=('')
            word=${words[${#words[@]} - 1]}
            local head=${word%"${word##*[=:]}"}
            COMPREPLY=()
            while IFS= read -r answer; do
                if [[ $answer == ':files '* ]]; then
                    name=${answer#:files }
                    while IFS= read -r answer; do
                        [[ -d $answer ]] && answer+=/
                        answer=$name$answer
                        COMPREPLY+=("${answer#"$head"}")
                    done < <(compgen -f -- "${word#"$name"}")
                else
                    COMPREPLY+=("${answer#"$head"}")
                fi
            done < <("${words[0]/#\~/$HOME}" completion words -- "${words[@]:1}" 2>/dev/null)
            [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=/] ]] && compopt -o nospace
            [[ ${#COMPREPLY[@]} == 1 && ${words[${#words[@]} - 2]} =~ ^--?(device|netdev|chardev|blockdev|object)$ ]] &&
                compopt -o nospace
            return 0
        }
        complete -F _qkvm qkvm

        """;

    public const string Zsh = """
        #compdef qkvm
        _qkvm() {
            local answer name
            local -a answers
            for answer in "${(@f)$("${words[1]/#\~/$HOME}" completion words -- \
                "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
                if [[ $answer == ':files '* ]]; then
                    name=${answer#:files }
                    compset -P "${(q)name}"
                    _files
                elif [[ -n $answer ]]; then
                    answers+=("$answer")
                fi
            done
            (( $#answers )) && compadd -S '' -- "${answers[@]}"
        }
        if [[ $funcstack[1] == _qkvm ]]; then _qkvm "$@"; else compdef _qkvm qkvm; fi

        """;

    public const string Fish = """
        function __qkvm_complete
            set -l words (commandline -opc) (commandline -ct)
            for answer in ($words[1] completion words -- $words[2..-1] 2>/dev/null)
                if string match -q ':files *' -- $answer
                    set -l name (string replace ':files ' '' -- $answer)
                    set -l begun (string replace -- "$name" '' $words[-1])
                    for file in (__fish_complete_path $begun)
                        echo $name$file
                    end
                else
                    echo $answer
                end
            end
        end
        complete -c qkvm -f -a '(__qkvm_complete)'

        """;
}

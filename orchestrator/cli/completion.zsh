#compdef orch

# Completion of orch. No space is added behind PARAM=.
_orch_completion() {
    emulate -L zsh -o extendedglob
    local -a plain described assignments described_assignments response
    local type key descr
    (( $+commands[orch] )) || return 1

    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) _ORCH_COMPLETE=zsh_complete orch)}")
    for type key descr in ${response}; do
        case $type in
        dir) _path_files -/ ;;
        file) _path_files -f ;;
        plain)
            if [[ $key == *= ]]; then
                [[ $descr == _ ]] && assignments+=("$key") || described_assignments+=("$key:$descr")
            else
                [[ $descr == _ ]] && plain+=("$key") || described+=("$key:$descr")
            fi
            ;;
        esac
    done
    (( $#described_assignments )) && _describe -V params described_assignments -U -S ''
    (( $#assignments )) && compadd -U -S '' -V params -a assignments
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -U -V unsorted -a plain
    return 0
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    # autoload from fpath, call function directly
    _orch_completion "$@"
else
    # eval/source/. command, register function for later
    compdef _orch_completion orch
fi

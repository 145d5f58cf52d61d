# Completion of orch. Bash splits words at the characters of COMP_WORDBREAKS, so that
# deploy:publish and release=1 are three words each: the words are joined again if no blank is
# between them, and each completion is printed without the part that bash keeps.
_orch_completion() {
    local IFS=$'\n' line=$COMP_LINE rest word type value kept= i
    local -a words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        rest=${line#"${line%%[![:space:]]*}"}
        if [[ $i -gt 0 && -n $word && $rest == "$line" ]]; then
            kept=${words[${#words[@]} - 1]}
            words[${#words[@]} - 1]+=$word
            case $word in [=:]*) kept+=$word ;; esac
        else
            words+=("$word")
            kept=
        fi
        line=${rest#"$word"}
    done
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain)
            [[ $value != *= ]] || compopt -o nospace
            [[ $value != *" "* ]] || printf -v value %q "$value"
            COMPREPLY+=("${value#"$kept"}")
            ;;
        esac
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        _ORCH_COMPLETE=bash_complete "$1")
}

complete -o nosort -F _orch_completion orch

# bash completion for changeover; made by `changeover completion`
_changeover()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= word
    local commands="init check setup status lag cutover resume abort rollback detach report drivers help"
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case " $commands " in *" $word "*) command=$word; break ;; esac
    done
    case $prev in
    -c|--config) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --pair) COMPREPLY=(); return ;;
    --a) COMPREPLY=(); return ;;
    --b) COMPREPLY=(); return ;;
    --engine) COMPREPLY=(); return ;;
    --name) COMPREPLY=(); return ;;
    --for) mapfile -t COMPREPLY < <(compgen -W "setup cutover" -- "$cur"); return ;;
    --timeout) COMPREPLY=(); return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W "text json prometheus nagios markdown html" -- "$cur"); return ;;
    --max-write-pause) COMPREPLY=(); return ;;
    --run) COMPREPLY=(); return ;;
    esac
    local words="--config --pair --json --quiet --verbose --help --version"
    case $command in
    '') words="$commands $words" ;;
    help) words=$commands ;;
    init) words="$words --a --b --engine --name --grants" ;;
    check) words="$words --for --strict" ;;
    setup) words="$words --dry-run" ;;
    lag) words="$words --wait= --watch= --history= --fail-fast --timeout --format" ;;
    cutover) words="$words --dry-run --yes --when-ready= --max-write-pause" ;;
    resume) words="$words --if-needed --take-over" ;;
    abort) words="$words --yes --take-over --forget --b-is-lost" ;;
    rollback) words="$words --dry-run --yes --when-ready= --max-write-pause --check --b-is-lost" ;;
    detach) words="$words --dry-run --yes" ;;
    report) words="$words --format --run --list" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _changeover changeover

"""``rlhfc completion SHELL``: a script that lets a shell ask ``rlhfc complete``."""

from __future__ import annotations

import argparse

# Words are cut from the line, because bash parts its own at `=`, `:` and `@`, which stand in values
# and names of variants; for the same reason an answer lacks what stands before the last of these.
BASH = r"""# bash completion for rlhfc: source <(rlhfc completion bash)
_rlhfc() {
    local line=${COMP_LINE:0:COMP_POINT} words current before word
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]}
    before=${current%"${current##*[=:@]}"}
    COMPREPLY=()
    while IFS= read -r word; do
        if [[ $word == :files ]]; then
            compopt -o filenames 2> /dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "${current#"$before"}")
        else
            [[ $word == *. ]] && compopt -o nospace 2> /dev/null
            COMPREPLY+=("${word#"$before"}")
        fi
    done < <("${words[0]}" complete "${words[@]:1}" 2> /dev/null)
}
complete -F _rlhfc rlhfc
"""

ZSH = r"""#compdef rlhfc
# zsh completion for rlhfc: source <(rlhfc completion zsh), or a file `_rlhfc` in a folder of $fpath
_rlhfc() {
    local -a found
    found=("${(@f)$("${words[1]}" complete "${(@Q)words[2,CURRENT]}" 2> /dev/null)}")
    if [[ ${found[1]} == :files ]]; then
        compset -P '*='
        _files
    elif [[ ${found[1]} == *. ]]; then
        compadd -S '' -a found
    elif [[ -n ${found[1]} ]]; then
        compadd -a found
    fi
}
if [[ ${funcstack[1]} == _rlhfc ]]; then
    _rlhfc "$@"
else
    compdef _rlhfc rlhfc
fi
"""

# Paths are left to fish itself, which is asked about the word as it is typed: it knows `~`, variables
# and quotes, and completes what stands behind a `=`.
FISH = r"""# fish completion for rlhfc: rlhfc completion fish > ~/.config/fish/completions/rlhfc.fish
function __rlhfc_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (command $words[1] complete $words[2..-1] "$current" 2> /dev/null)
    if test "$found[1]" = ":files"
        complete -C "'' $current"
    else
        printf '%s\n' $found
    end
end
complete -c rlhfc -f -a '(__rlhfc_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def run(arguments: argparse.Namespace) -> int:
    """Print the script of one shell."""
    print(SCRIPTS[arguments.shell], end="")
    return 0

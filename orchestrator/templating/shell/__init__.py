"""Templates of command text: the context of each expression, and quoting of its value.

A lexer of shell text walks over the template's tree when the template is loaded. After branches it
continues with every state that they leave, provided that all agree on what is open; otherwise the
template is rejected. So each expression has one context, known before any value is, and its value
is quoted for that context. A value never influences how the text after it is parsed.

- ``word_state``: how far a word has progressed: a name, an assignment, a keyword;
- ``lexer_state``: the open constructs, and the joining of branches;
- ``lexer``, ``commands``, ``heredoc``: the walk over the text. Text that dash, bash and busybox
  parse differently is a *doubt*: a command may contain it, but no expression may follow it;
- ``placeholders``: the context of an expression, and contexts in which none is allowed;
- ``escape``, ``heredoc_check``: quoting of values. Whether a value would end a here-document is
  known only from its content, so the finished text is checked for that;
- ``command_prefix``: the words of a command before an expression;
- ``rewriter``, ``shell_template``: the combination of all of them.

``raw`` inserts text unchanged. It is allowed only among the words of a command and is lexed when
its value is known: it must not leave anything open, so that the text after it is parsed as it was
at load time.

The guarantee is about parsing only. It does not cover what a command does with its arguments
(``eval``, ``sh -c``, ``ssh``, and in bash ``declare``, ``unset``, ``let``, ``printf -v``, ``read``,
``test -v``, which evaluate names).
"""

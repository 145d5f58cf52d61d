"""Output for people and programs: event sinks, and the display of plans, tables and errors.

``sinks.choose_sinks`` chooses the sinks of a run. Besides ``cli``, only this package prints, and
only through ``console.TextConsole``. Text from a host is sanitized before it is shown.
"""

"""Plans one step for one host: completely, or up to the results that it waits for."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from orchestrator.errors import (
    DefinitionError,
    Diagnostic,
    DiagnosticCollector,
    SourcePosition,
    suggest_nearest,
)
from orchestrator.model.command import StepCommand, StepEffects
from orchestrator.model.condition import Condition, ConstantCondition
from orchestrator.model.marked_value import HomePath, MarkedValue
from orchestrator.planner import download_script, module_script, shell_text, step_effects
from orchestrator.planner.host_scope import lone_name
from orchestrator.planner.plan import (
    CONTROLLER,
    ControlAction,
    PlannedStep,
    ResultsByName,
    StepProgram,
)
from orchestrator.planner.request import PlanRequest
from orchestrator.planner.step_conditions import (
    NO_RESULTS,
    ResultConditions,
    StepConditions,
    StepContext,
    all_true,
    condition_text,
)
from orchestrator.planner.step_options import (
    environment_variables,
    render_option,
    timeout_seconds,
    to_plain_text,
    working_directory,
)
from orchestrator.planner.task_expander import ExpandedStep, ScopedTemplate
from orchestrator.planner.task_scope import TaskScope
from orchestrator.planner.template_deps import TemplateDependencies
from orchestrator.planner.trust_checks import check_exposed_secrets, render_trusted
from orchestrator.playbook.keywords import BECOME_HINT
from orchestrator.playbook.model import ControlStep, DownloadStep, ModuleSpec, RunStep
from orchestrator.templating import ResultPending
from orchestrator.yamlio.schema import SchemaReader

if TYPE_CHECKING:
    from orchestrator.templating import ValueTemplate


def evaluate_control_step(control: ControlStep, task_scope: TaskScope) -> ControlAction:
    """Return the action of a set, fail, assert or wait step.

    Raises ResultPending and DefinitionError.
    """
    if control.kind == "assert":
        return _evaluate_assert(control, task_scope)
    reads_before = task_scope.host.position.host_text_reads
    value = control.value.render(task_scope)
    mark = control.value.mark
    if control.kind == "set":
        if not isinstance(value, dict):
            raise DefinitionError(Diagnostic("set needs a mapping", mark))
        return ControlAction(
            "set",
            values=value,
            from_controller=task_scope.host.position.host_text_reads == reads_before,
        )
    if control.kind == "wait_for_connection":
        timeout, delay = (
            _seconds(each, name, mark)
            for each, name in zip(value, ("timeout", "delay"), strict=True)
        )
        test = control.test.render(task_scope) if control.test else ""
        return ControlAction(control.kind, timeout=timeout, seconds=delay, test=test)
    if control.kind == "fail":
        return ControlAction("fail", ok=False, message=to_plain_text(value, "fail", mark))
    return ControlAction("wait", seconds=_seconds(value, "wait", mark))


def _seconds(value: object, name: str, mark: SourcePosition) -> float:
    """Return a duration in seconds. Raises DefinitionError."""
    diagnostics = DiagnosticCollector()
    data = value if isinstance(value, (str, int, float)) else None
    seconds = SchemaReader(diagnostics).duration(MarkedValue(data, mark), name)
    diagnostics.raise_any()
    return seconds or 0.0


def _evaluate_assert(control: ControlStep, task_scope: TaskScope) -> ControlAction:
    for condition in control.conditions:
        if not all_true((condition,), task_scope):
            message = to_plain_text(control.value.render(task_scope), "message", control.value.mark)
            return ControlAction(
                "assert", ok=False, message=message or f"{condition_text(condition)} is false"
            )
    return ControlAction("assert")


_USER_REFUSAL = (
    "could be any user",
    "name the users in the task, one step for each, and choose by `when`",
)
_HOST_REFUSAL = ("could be any host", "name the hosts in the task or by a role: `roles.web[0]`")


class StepPlanner:
    """Plans one step of one host.

    ``host_environment`` is the host's environment. ``unfold_loop`` returns the program of a loop
    when its items are known. In check mode, steps that may change something are planned to report
    only.
    """

    def __init__(
        self,
        expanded: ExpandedStep,
        context: StepContext,
        host_environment: Mapping[str, ScopedTemplate],
        request: PlanRequest,
        unfold_loop: Callable[[ExpandedStep, ResultsByName], StepProgram],
    ) -> None:
        """Prepare the step's conditions and template dependencies."""
        self.expanded, self.context, self.host_environment, self.unfold_loop = (
            expanded,
            context,
            host_environment,
            unfold_loop,
        )
        self.task_scope, self.step, self.request = expanded.task_scope, expanded.step, request
        self.run_step = self.step.action if isinstance(self.step.action, RunStep) else None
        self.module = self.step.action if isinstance(self.step.action, ModuleSpec) else None
        self.download = self.step.action if isinstance(self.step.action, DownloadStep) else None
        action = self.run_step or self.module or self.download
        self.readonly = action.readonly if action else not expanded.is_open_loop
        self.skipped_by_check = request.check_mode and not self.readonly
        runs_elsewhere = (
            expanded.inherited.delegate is not None or expanded.inherited.local or action is None
        )
        self.conditions = StepConditions(expanded, context, runs_elsewhere=runs_elsewhere)
        self.dependencies = TemplateDependencies(expanded, host_environment)
        self.result_conditions = ResultConditions(
            expanded, context, self.conditions, skipped_by_check=self.skipped_by_check
        )

    def plan_step(self) -> PlannedStep:
        """Return the step: final, waiting, or skipped. Raises DefinitionError."""
        self.context.enter(NO_RESULTS)
        self.dependencies.check_result_fields()
        base = self._base_step(self._skip_reason())
        if base.skip:
            return base
        self._check_sources()
        try:
            action = self._make_action()
        except ResultPending as pending:
            self.dependencies.check_names()
            self.dependencies.check_renderable(self.context)
            names = tuple(
                sorted(
                    (pending.names | self.dependencies.names_awaited(self.context))
                    & self.task_scope.host.awaited_names()
                )
            )
            return replace(base, awaited_names=names, resume=self._resume)
        if isinstance(action, str):
            return replace(base, skip=action)
        if isinstance(action, ControlAction):
            return replace(base, control_action=action)
        return replace(
            base,
            display_text=base.display_text if action.desired_state else action.text,
            command=action,
        )

    def _check_sources(self) -> None:
        """Raise DefinitionError if text from a host would determine a local file."""
        if self.download is not None and not self.expanded.is_open_loop:
            download_script.check_target(self.download, self.task_scope)
        if self.module is not None and not self.expanded.is_open_loop:
            module_script.check_payload_sources(self.module, self.task_scope)

    def _skip_reason(self) -> str:
        """Return why the step will not run, or '', as far as known.

        The other options of a skipped step may be invalid.
        """
        if self.expanded.is_open_loop:
            return self.expanded.inherited.exclude_reason
        try:
            when = self.conditions.when_condition()
        except ResultPending:
            return ""
        return when if isinstance(when, str) else "when" if when == ConstantCondition(False) else ""

    def _base_step(self, skip_reason: str) -> PlannedStep:
        on_controller = (
            frozenset[str]()
            if self.skipped_by_check
            else self.result_conditions.evaluated_on_controller()
        )
        inherited, step = self.expanded.inherited, self.step
        is_result_used = step.register != "" or bool(inherited.notify)
        display_text = self._step_source(skip_reason)
        return PlannedStep(
            number=self.expanded.number,
            name=self._step_title(skip_reason, display_text),
            mark=step.mark,
            display_text=display_text,
            when=" and ".join(condition_text(j) for j, _ in inherited.when if j is not True),
            skip=skip_reason,
            register=step.register,
            readonly=self.readonly,
            flush_after="failed_when" in on_controller
            or ("changed_when" in on_controller and is_result_used),
            evaluate_result=self.result_conditions.evaluate if on_controller else None,
            retry=self.result_conditions.retry_plan(),
            notify=tuple(map(str, inherited.notify)),
            handler=self.expanded.handler,
            notified_by=self.expanded.notified_by,
            notify_keys=self.expanded.notify_keys,
            notified_as=self.expanded.notified_as,
            delegate_to=self._delegate_host(),
            user="" if skip_reason else self._become_user(),
            variables_set=step.action.names if isinstance(step.action, ControlStep) else (),
            is_download=self.download is not None and not self.expanded.is_open_loop,
            command_position=self._command_position(),
            loop=self.expanded.loop,
            is_open_loop=self.expanded.is_open_loop,
            pause=self._pause(skip_reason),
            returns=self.module.returns if self.module else {},
            hide_result=self.task_scope.secrets.masker.add_secret if inherited.secret else None,
        )

    def _pause(self, skip_reason: str) -> float:
        """Return the seconds before the step; a check, and a skipped item, do not pause."""
        is_idle = self.request.check_mode or (skip_reason and self.expanded.loop)
        return 0.0 if is_idle else self.expanded.pause

    def _command_position(self) -> SourcePosition | None:
        """Return the position of the command if the step only names a variable, or None."""
        name = lone_name(self.run_step.text.source) if self.run_step and self.run_step.text else ""
        origin = self.task_scope.origin(name) if name else None
        return origin.mark if origin else None

    def _become_user(self) -> str:
        """Return the become user; `become: true` means root, or the host's own become user.

        Raises DefinitionError if it is empty.
        """
        scoped_template = self.expanded.inherited.become
        host = self.task_scope.host
        if scoped_template is None:
            is_here = self.expanded.inherited.delegate is None and not self.expanded.inherited.local
            return (host.become_user or "root") if host.become and is_here else ""
        if self._differs_by_item(scoped_template):
            return ""
        value = self._known_before_run(scoped_template, "become", _USER_REFUSAL)
        if isinstance(value, bool):
            return (host.become_user or "root") if value else ""
        name = (
            to_plain_text(value, "become", scoped_template.template.mark)
            if value is not None
            else ""
        )
        if not name.strip():
            raise DefinitionError(
                Diagnostic("`become` is empty", scoped_template.template.mark, BECOME_HINT)
            )
        return name

    def _differs_by_item(self, scoped_template: ScopedTemplate) -> bool:
        """Return True if every item of a loop over a pending result has its own value."""
        template = scoped_template.template
        return not self.dependencies.item_names().isdisjoint(template.names | template.optional)

    def _known_before_run(
        self, scoped_template: ScopedTemplate, option_name: str, refusal: tuple[str, str]
    ) -> object:
        """Return a value that is known before the run and does not depend on host output."""
        try:
            return render_trusted(
                scoped_template.template, scoped_template.task_scope, option_name, *refusal
            )
        except ResultPending as pending:
            names = ", ".join(f"`{name}`" for name in sorted(pending.names))
            message = f"`{option_name}` depends on {names}, but must be known before the run starts"
            raise DefinitionError(
                Diagnostic(message, scoped_template.template.mark, refusal[1])
            ) from None

    def _working_directory(self, chdir: str | None) -> step_effects.WorkingDirectory:
        return step_effects.WorkingDirectory(chdir, self._become_user())

    def _step_chdir(self) -> str | None:
        """Return the folder to change to; a local step runs in the project's folder."""
        chdir = working_directory(self.expanded.inherited.chdir)
        if not self.expanded.inherited.local or isinstance(chdir, HomePath):
            return chdir
        return posixpath.join(self.task_scope.project_folder, chdir or "")

    def _delegate_host(self) -> str:
        """Return the host that runs the step instead, or ''; it must be a host of the stage."""
        if self.expanded.inherited.local:
            return CONTROLLER
        scoped_template = self.expanded.inherited.delegate
        if scoped_template is None or self._differs_by_item(scoped_template):
            return ""
        name = to_plain_text(
            self._known_before_run(scoped_template, "delegate_to", _HOST_REFUSAL),
            "delegate_to",
            scoped_template.template.mark,
        )
        known = self.task_scope.host.objects["hosts"]
        if isinstance(known, Mapping) and name not in known:
            message = f"delegate_to: no host '{name}' in this stage"
            raise DefinitionError(
                Diagnostic(message, scoped_template.template.mark, suggest_nearest(name, known))
            )
        return name

    def _resume(self, results: ResultsByName) -> StepCommand | ControlAction | StepProgram | str:
        self.context.enter(results)
        if self.expanded.is_open_loop:
            return self.unfold_loop(self.expanded, results)
        return self._make_action()

    def _make_action(self) -> StepCommand | ControlAction | str:
        if self.expanded.is_open_loop:
            raise ResultPending(
                self.dependencies.names_awaited(self.context) | self.dependencies.items_awaited()
            )
        when = self.conditions.when_condition()
        if isinstance(when, str):
            return when
        if isinstance(self.step.action, ControlStep):
            return (
                self._control_action(self.step.action)
                if when == ConstantCondition(True)
                else "when"
            )
        if when == ConstantCondition(False):
            return "when"
        if self.run_step is not None:
            return self._run_command(self.run_step, when)
        if self.download is not None:
            return self._download_command(self.download, when)
        if self.module is None:
            raise TypeError("unexpected kind of step action")
        return self._module_command(self.module, when)

    def _control_action(self, control: ControlStep) -> ControlAction:
        action = evaluate_control_step(control, self.task_scope)
        if not action.ok:
            ignored = all_true((self.step.ignore_errors,), self.task_scope)
            action = replace(action, ignore_failure=ignored)
        return replace(action, seconds=0.0) if self.request.check_mode else action

    def _module_command(self, module: ModuleSpec, when: Condition) -> StepCommand:
        """Return the command of a module."""
        inherited = self.expanded.inherited
        check_exposed_secrets(module, self.task_scope)
        desired = module_script.desired_state(module, self.task_scope)
        body = module_script.module_script(module, self.task_scope, desired)
        chdir, environment = (
            self._step_chdir(),
            environment_variables(self.host_environment, inherited.environment),
        )
        return StepCommand(
            step=self.expanded.number,
            text=shell_text.wrap_script(body, chdir, environment),
            timeout=timeout_seconds(inherited.timeout),
            when=when,
            failed_condition=None
            if self.skipped_by_check
            else self.result_conditions.compile_for_host(self.step.failed_when, None),
            changed_condition=None
            if self.skipped_by_check
            else self.result_conditions.compile_for_host(self.step.changed_when, None),
            ignore_failure=all_true((self.step.ignore_errors,), self.expanded.caller),
            desired_state=desired,
            check_mode=self.request.check_mode,
            show_diff=self.request.show_diff and inherited.diff,
            spawns_no_daemon=all_true((module.contained,), self.task_scope),
            effects=self._module_effects(module, chdir) if self.request.check_mode else None,
        )

    def _module_effects(self, module: ModuleSpec, chdir: str | None) -> StepEffects:
        found = step_effects.module_effects(module, self.task_scope, self._working_directory(chdir))
        waits = self.readonly and module_script.converge_timeout(module, self.task_scope) > 0
        return replace(found, waits_for_state=waits)

    def _download_command(self, download: DownloadStep, when: Condition) -> StepCommand:
        """Return the command that examines the host's path, which the controller then reads."""
        inherited = self.expanded.inherited
        chdir, environment = (
            working_directory(inherited.chdir),
            environment_variables(self.host_environment, inherited.environment),
        )
        spec = download_script.download_spec(download, self.task_scope, chdir, environment)
        timeout = timeout_seconds(inherited.timeout)
        return StepCommand(
            step=self.expanded.number,
            text=download_script.probe_script(spec.prologue),
            timeout=download_script.PROBE_TIMEOUT if timeout is None else timeout,
            when=when,
            changed_condition=None,
            ignore_failure=all_true((self.step.ignore_errors,), self.expanded.caller),
            desired_state=download_script.unreachable_state(),
            check_mode=True,
            download=replace(
                spec,
                check_mode=self.request.check_mode,
                show_diff=self.request.show_diff and inherited.diff,
                timeout=timeout,
            ),
            effects=step_effects.download_effects(self._working_directory(chdir), spec.path)
            if self.request.check_mode
            else None,
        )

    def _run_command(self, run: RunStep, when: Condition) -> StepCommand:
        inherited = self.expanded.inherited
        body = run.text.render(self.task_scope) if run.text else run.literal
        chdir, environment = (
            self._step_chdir(),
            environment_variables(self.host_environment, inherited.environment),
        )
        creates = render_option(run.creates, self.task_scope, "creates", path=True)
        known = step_effects.command_effects(
            self._working_directory(chdir), creates, readonly=run.readonly
        )
        guard_text = shell_text.guard_script(
            creates,
            render_option(run.removes, self.task_scope, "removes", path=True),
            run.unless.render(self.task_scope) if run.unless else None,
            run.onlyif.render(self.task_scope) if run.onlyif else None,
        )
        return StepCommand(
            step=self.expanded.number,
            text=shell_text.wrap_script(body, chdir, environment),
            shell=run.shell,
            timeout=timeout_seconds(inherited.timeout),
            stdin=render_option(run.stdin, self.task_scope, "stdin"),
            guard=shell_text.wrap_script(guard_text, chdir, environment, on_cd_failure=" || exit 2")
            if guard_text
            else "",
            when=when,
            failed_condition=None
            if self.skipped_by_check
            else self.result_conditions.compile_for_host(self.step.failed_when, None),
            changed_condition=self._change_condition(run),
            ignore_failure=all_true((self.step.ignore_errors,), self.expanded.caller),
            check_mode=self.skipped_by_check,
            spawns_no_daemon=run.readonly,
            effects=known if self.request.check_mode else None,
        )

    def _change_condition(self, run: RunStep) -> Condition:
        """Return the condition under which the step counts as changed.

        A step that check mode does not run counts as changed unless ``changed_when`` is false.
        """
        written = self.step.changed_when
        if self.skipped_by_check:
            return ConstantCondition(written != (False,))
        return self.result_conditions.compile_for_host(
            written, ConstantCondition(not run.readonly)
        ) or ConstantCondition(False)

    def _step_title(self, skip_reason: str, display_text: str) -> str:
        own = ""
        if self.step.name:
            try:
                own = self.step.name.render(self.expanded.caller)
            except ResultPending:
                own = self.step.name.source
        whole = display_text.strip()
        if self.module:
            whole = module_script.module_step_title(self.task_scope, is_skipped=skip_reason != "")
        first = whole.split("\n", 1)[0]
        shown = own or (first if len(first) <= 60 else first[:59] + "…")
        handler = (f"handler {self.expanded.handler}",) if self.expanded.handler else ()
        label = f" ({self.expanded.label})" if self.expanded.label else ""
        return " › ".join((*handler, *self.expanded.inherited.title_path, shown)) + label

    def _step_source(self, skip_reason: str) -> str:
        if self.run_step is not None:
            return self.run_step.text.source if self.run_step.text else self.run_step.literal
        if self.module is not None:
            return module_script.call_text(self.task_scope, is_skipped=skip_reason != "")
        if self.download is not None:
            return f"download {_option_text(self.download.path, self.task_scope)}"
        if isinstance(self.step.action, ControlStep):
            return self.step.action.kind
        return getattr(self.step.action, "task", "block")


def _option_text(template: ValueTemplate, task_scope: TaskScope) -> str:
    """Return the rendered text, or the template's source if it waits for a result."""
    try:
        return render_option(template, task_scope, "path") or ""
    except ResultPending:
        return template.source

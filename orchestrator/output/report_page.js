"use strict";
// Shows the run in #data. Every text goes into the page as a text node, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const CHUNK = 60; // rows that are made at once
  const MAX_GROUPS = 10; // groups of equal results that are shown before "Show 20 more"
  const MAX_HOSTS = 12; // names of hosts, or ranges of them, that are shown before "and 288 more"
  const TEXTS = ["name", "reason", "stdout", "stderr", "changes"];
  const SIGNS = { ok: "✔", changed: "✔", failed: "✘", skipped: "–", would: "~", ignored: "✘" };
  const text = (number) => data.texts[number || 0];
  const lower = data.texts.map((each) => each.toLowerCase());

  const hosts = data.hosts.map(([name, app, status, ms, reason, roles, start, connectMs], number) => ({
    number, name, app, status, ms: ms || 0, reason, roles: roles || "", start, connectMs, results: [],
    label: app ? `${name} ${app}` : name,
  }));
  const tasks = data.tasks.map(([title, start, ms, count, numberText], number) => ({
    number, title, start, ms, count, numberText, steps: [],
  }));
  const steps = data.steps.map(([task, label, name], number) => {
    const step = { number, task: tasks[task], label, name, results: [] };
    step.task.steps.push(step);
    return step;
  });
  const results = data.results.map((row) => {
    const [step, host, status, start, ms, name, reason, stdout, stderr, changes, attempts, position] = row;
    const result = {
      step: steps[step], host: hosts[host], status, start, ms, name: name || steps[step].name, reason,
      stdout, stderr, changes, attempts: attempts || 1, position,
    };
    result.step.results.push(result);
    result.host.results.push(result);
    return result;
  });

  // Elements

  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name.startsWith("aria-") || name === "role" || name === "for") element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children.filter((child) => child !== null && child !== ""));
    return element;
  }

  function marked(content) {
    // The text, with the words that are searched for in <mark>.
    const part = document.createDocumentFragment();
    const wanted = filter.text;
    const folded = wanted ? content.toLowerCase() : "";
    let from = 0;
    if (wanted && folded.length === content.length) {
      for (let at = folded.indexOf(wanted); at >= 0; at = folded.indexOf(wanted, from)) {
        part.append(content.slice(from, at), make("mark", {}, content.slice(at, at + wanted.length)));
        from = at + wanted.length;
      }
    }
    part.append(content.slice(from));
    return part;
  }

  function diffBlock(content) {
    const block = make("pre", { tabIndex: 0 });
    const lines = content.split("\n");
    lines.forEach((line, number) => {
      const isHeading = (line.startsWith("--- ") && lines[number + 1]?.startsWith("+++ "))
        || (line.startsWith("+++ ") && lines[number - 1]?.startsWith("--- "));
      const kind = isHeading ? "place" : { "+": "added", "-": "removed", "@": "place" }[line[0]];
      if (number) block.append("\n");
      block.append(kind ? make("span", { className: kind }, marked(line)) : marked(line));
    });
    return block;
  }

  function seconds(ms) {
    const whole = Math.round(ms / 1000);
    if (ms < 60000) return `${(ms / 1000).toFixed(ms < 9950 ? 2 : 1)} s`;
    const minutes = Math.floor(whole / 60);
    if (minutes < 60) return `${minutes} min ${whole % 60} s`;
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  function statusSpan(status, about) {
    const [word, kind] = data.statuses[status];
    return make("span", { className: kind }, make("span", { className: "sign", "aria-hidden": "true" }, SIGNS[kind]), ` ${word}${about || ""}`);
  }

  function resultStatus(result) {
    const attempts = result.attempts > 1 ? ` after ${result.attempts} attempts` : "";
    return statusSpan(result.status, attempts);
  }

  function countSpans(rows) {
    const counts = new Map();
    for (const row of rows) counts.set(row.status, (counts.get(row.status) || 0) + 1);
    const sorted = [...counts].sort((a, b) => a[0] - b[0]);
    return make("span", { className: "counts" }, ...sorted.map(([status, count]) => {
      const [word, kind] = data.statuses[status];
      return make("span", { className: kind }, `${count} ${word}`);
    }));
  }

  function foldNames(names) {
    // Returns web1, web2, web3, db as web[1-3], db.
    const frames = new Map();
    for (const name of names) {
      const found = /^(.*?)(\d+)(\D*)$/.exec(name);
      const width = found && found[2][0] === "0" ? found[2].length : 0;
      const key = found ? JSON.stringify([found[1], found[3], width]) : name;
      if (!frames.has(key)) frames.set(key, { name, found, digits: [] });
      if (found) frames.get(key).digits.push(found[2]);
    }
    return [...frames.values()].map(({ name, found, digits }) => {
      if (digits.length < 2) return name;
      const sorted = digits.sort((a, b) => a - b);
      const ranges = [];
      for (const each of sorted) {
        const last = ranges.at(-1);
        if (last && Number(last[1]) === each - 1) last[1] = each;
        else ranges.push([each, each]);
      }
      const shown = ranges.map(([from, to]) => (from === to ? from : `${from}-${to}`));
      return `${found[1]}[${shown.join()}]${found[3]}`;
    });
  }

  function hostNames(hostList) {
    const sorted = [...hostList].sort((a, b) => a.number - b.number).map((host) => host.label);
    const names = filter.text ? sorted : foldNames(sorted);
    const part = make("span", { className: "hosts" });
    const left = names.length - MAX_HOSTS;
    if (left < 2) {
      part.append(marked(names.join(", ")));
      return part;
    }
    const button = make("button", { type: "button", className: "more" }, `and ${left} more`);
    button.addEventListener("click", () => part.replaceChildren(marked(names.join(", "))));
    part.append(marked(names.slice(0, MAX_HOSTS).join(", ")), " ", button);
    return part;
  }

  // These buttons make more rows: when the end of the list comes near (unless `onDemand` is the
  // number of rows before it), and for the printer.
  const moreButtons = new Set();
  const observer = "IntersectionObserver" in window ? new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) entry.target.click();
  }, { rootMargin: "600px" }) : null;

  function fill(parent, items, makeItem, onDemand = 0) {
    let next = 0;
    const button = make("button", { type: "button", className: "more" });
    function add() {
      observer?.unobserve(button);
      const chunk = items.slice(next, next + (next ? CHUNK : onDemand || CHUNK)).map(makeItem);
      next += chunk.length;
      button.before(...chunk);
      button.textContent = `Show ${items.length - next} more`;
      if (next >= items.length) {
        moreButtons.delete(button);
        button.remove();
      } else {
        moreButtons.add(button);
        if (!onDemand) observer?.observe(button);
      }
    }
    parent.append(button);
    button.addEventListener("click", add);
    add();
    return parent;
  }

  function forgetRemovedButtons() {
    for (const button of [...moreButtons].filter((each) => !each.isConnected)) {
      moreButtons.delete(button);
      observer?.unobserve(button);
    }
  }

  addEventListener("beforeprint", () => {
    for (const button of moreButtons) while (moreButtons.has(button)) button.click();
  });

  function detailsRow(summary, makeInside, open) {
    const row = make("details", { className: "row" }, make("summary", {}, summary));
    const inside = make("div", { className: "inside" });
    function build() {
      if (!inside.hasChildNodes()) makeInside(inside);
    }
    row.append(inside);
    row.addEventListener("toggle", () => row.open && build());
    if (open) {
      build();
      row.open = true;
    }
    return row;
  }

  function outputs(result, parent, shown = text) {
    // `shown` returns the text of a number.
    const part = make("div", { className: "outputs" });
    if (result.position) part.append(make("p", { className: "position" }, "at ", make("code", {}, text(result.position))));
    const blocks = [["changes", result.changes], ["standard output", result.stdout], ["standard error", result.stderr]];
    for (const [title, number] of blocks.filter(([, each]) => each)) {
      const block = title === "changes" ? diffBlock(shown(number)) : make("pre", { tabIndex: 0 }, marked(shown(number)));
      block.setAttribute("aria-label", title);
      part.append(make("h4", {}, title), block);
    }
    parent.append(part);
  }

  const hasOutputs = (result) => Boolean(result.stdout || result.stderr || result.changes || result.position);

  // The filter

  const filter = { text: "", statuses: new Set(), results: new Set(), hosts: new Set(), isActive: false };

  function applyFilter() {
    filter.isActive = Boolean(filter.text || filter.statuses.size);
    const found = new Set();
    if (filter.text) lower.forEach((each, number) => each.includes(filter.text) && found.add(number));
    const has = (content) => content.toLowerCase().includes(filter.text);
    const named = filter.text ? new Set(hosts.filter((host) => has(host.label) || has(host.roles))) : null;
    const titled = filter.text ? new Set(tasks.filter((task) => has(task.title))) : null;
    filter.results = new Set(results.filter((result) => {
      if (filter.statuses.size && !filter.statuses.has(result.status)) return false;
      if (!filter.text) return true;
      if (named.has(result.host) || titled.has(result.step.task)) return true;
      return [result.name, result.reason, result.stdout, result.stderr, result.changes, result.position]
        .some((number) => number && found.has(number));
    }));
    filter.hosts = new Set([...filter.results].map((result) => result.host));
    for (const host of hosts) {
      if (host.results.length && filter.isActive) continue;
      if (filter.statuses.size && !filter.statuses.has(host.status)) continue;
      if (!filter.text || named.has(host) || found.has(host.reason)) filter.hosts.add(host);
    }
    const count = filter.results.size;
    document.getElementById("found").textContent = filter.isActive
      ? `${count} of ${results.length} results on ${filter.hosts.size} of ${hosts.length} hosts`
      : "";
  }

  const shownResults = (rows) => rows.filter((result) => filter.results.has(result));

  // Hosts, with a timeline each

  const total = Math.max(data.ms, 1, ...results.map((result) => result.start + result.ms));
  const percent = (ms) => `${Math.min(100, Math.max(0, (100 * ms) / total)).toFixed(3)}%`;

  function segment(start, ms, kind, about) {
    const bar = make("i", { className: kind, title: about });
    bar.style.left = percent(start);
    bar.style.width = percent(ms);
    return bar;
  }

  function timeline(host) {
    const track = make("span", { className: "track", "aria-hidden": "true" });
    if (host.connectMs) track.append(segment(host.start, host.connectMs, "connect", `connect: ${seconds(host.connectMs)}`));
    for (const result of host.results) {
      const [word, kind] = data.statuses[result.status];
      const shown = segment(result.start, result.ms, kind, `${result.step.task.title} › ${text(result.name)}: ${word}, ${seconds(result.ms)}`);
      if (!filter.results.has(result)) shown.style.opacity = "0.25";
      track.append(shown);
    }
    return track;
  }

  function axis() {
    const scale = make("span", { className: "scale" });
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      const tick = make("span", {}, part ? seconds(total * part) : "0 s");
      tick.style.left = percent(total * part);
      scale.append(tick);
    }
    return make("div", { className: "axis", "aria-hidden": "true" }, scale);
  }

  function hostRow(host) {
    const name = make("span", { className: "name" }, marked(host.name));
    if (host.app) name.append(make("small", {}, ` ${host.app}`));
    const line = make("span", { className: "host-line" }, name, statusSpan(host.status), timeline(host),
      make("span", { className: "time" }, seconds(host.ms)));
    if (host.reason) line.append(make("span", { className: "reason" }, marked(text(host.reason))));
    return detailsRow(line, (inside) => {
      if (host.roles) inside.append(make("p", { className: "dim" }, `roles: ${host.roles}`));
      const shown = shownResults(host.results);
      if (shown.length < host.results.length) {
        inside.append(make("p", { className: "dim" }, `${shown.length} of ${host.results.length} steps match the filter`));
      }
      if (!host.results.length) inside.append(make("p", { className: "dim" }, "no step was run"));
      let task = null;
      fill(inside, shown, (result) => {
        const part = make("div", {});
        if (result.step.task !== task) {
          task = result.step.task;
          part.append(make("h3", {}, marked(task.title), make("small", {}, `after ${seconds(task.start)}`)));
        }
        part.append(resultRow(result));
        return part;
      });
    });
  }

  function resultRow(result) {
    const line = make("span", { className: "step-line" },
      make("span", { className: "number" }, result.step.label),
      make("span", { className: "name" }, marked(text(result.name))),
      resultStatus(result),
      make("span", { className: "time" }, seconds(result.ms)));
    if (result.reason) line.append(make("span", { className: "reason" }, marked(text(result.reason))));
    if (!hasOutputs(result)) return make("div", { className: "plain" }, line);
    const isOpen = data.statuses[result.status][1] === "failed" || Boolean(filter.text);
    return detailsRow(line, (inside) => outputs(result, inside), isOpen);
  }

  function hostsView(view) {
    view.append(axis());
    fill(view, hosts.filter((host) => filter.hosts.has(host)), hostRow);
  }

  // Tasks, with equal results of several hosts together

  function withoutName(host) {
    // Returns a function for the text of a number, with <host> for the name of the host.
    const name = host.name.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
    const pattern = new RegExp(`(?<![\\w.-])${name}(?![\\w-])`, "g");
    return (number) => text(number).replace(pattern, "<host>");
  }

  function groupsOf(rows) {
    // Results that differ only in the name of the host are in one group.
    const groups = new Map();
    for (const row of rows) {
      const shown = withoutName(row.host);
      const texts = TEXTS.map((key) => shown(row[key]));
      const key = JSON.stringify([row.status, row.attempts, ...texts]);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    return [...groups.values()].sort((a, b) => a[0].status - b[0].status || b.length - a.length);
  }

  function groupBlock(step, rows) {
    const [first] = rows;
    const shown = rows.length > 1 && rows.some((row) => TEXTS.some((key) => row[key] !== first[key]))
      ? withoutName(first.host) : text;
    const part = make("div", { className: "group" });
    const head = make("p", {}, hostNames(rows.map((row) => row.host)));
    if (rows.length > 1) head.append(make("span", { className: "dim" }, `(${rows.length})`));
    head.append(resultStatus(first), make("span", { className: "time" }, seconds(Math.max(...rows.map((row) => row.ms)))));
    part.append(head);
    if (first.name !== step.name) part.append(make("p", { className: "dim" }, marked(shown(first.name))));
    if (first.reason) part.append(make("p", { className: "dim" }, marked(shown(first.reason))));
    if (hasOutputs(first)) outputs(first, part, shown);
    return part;
  }

  function stepRow(step) {
    const rows = shownResults(step.results);
    const line = make("span", { className: "step-line" },
      make("span", { className: "number" }, step.label),
      make("span", { className: "name" }, marked(text(step.name))),
      countSpans(rows),
      make("span", { className: "time" }, seconds(Math.max(...rows.map((row) => row.ms)))));
    const isOpen = Boolean(filter.text) || rows.some((row) => data.statuses[row.status][1] === "failed");
    return detailsRow(line, (inside) => fill(inside, groupsOf(rows), (group) => groupBlock(step, group), MAX_GROUPS), isOpen);
  }

  function taskBlock(task) {
    const hostCount = `${task.count} host${task.count === 1 ? "" : "s"}`;
    const about = `${task.numberText ? `${task.numberText}, ` : ""}${hostCount}, after ${seconds(task.start)}, took ${seconds(task.ms)}`;
    const block = make("section", {}, make("h3", {}, marked(task.title), make("small", {}, about)));
    const shown = task.steps.filter((step) => step.results.some((result) => filter.results.has(result)));
    if (!shown.length) block.append(make("p", { className: "dim" }, "no step was run"));
    return fill(block, shown, stepRow);
  }

  function tasksView(view) {
    const has = (task) => task.steps.some((step) => step.results.some((result) => filter.results.has(result)));
    fill(view, filter.isActive ? tasks.filter(has) : tasks, taskBlock);
  }

  function planView(view) {
    view.append(make("pre", { className: "plan", tabIndex: 0 }, marked(data.plan)));
  }

  // The page

  const views = [["hosts", "Hosts", hostsView], ["tasks", "Tasks", tasksView]];
  if (data.plan) views.push(["plan", "Plan", planView]);
  const tabs = new Map();
  let current = views[0];

  function show(view) {
    current = view;
    for (const [name, tab] of tabs) {
      tab.setAttribute("aria-selected", String(name === view[0]));
      tab.tabIndex = name === view[0] ? 0 : -1;
    }
    const panel = document.getElementById("view");
    panel.setAttribute("aria-labelledby", `tab-${view[0]}`);
    panel.replaceChildren();
    forgetRemovedButtons();
    view[2](panel);
    if (!panel.querySelector(".row, section, pre")) panel.append(make("p", { className: "dim" }, filter.isActive ? "nothing matches the filter" : "nothing was run"));
  }

  function refresh() {
    applyFilter();
    show(current);
  }

  function makeTabs() {
    const list = document.querySelector("[role=tablist]");
    views.forEach((view, number) => {
      const tab = make("button", { type: "button", role: "tab", id: `tab-${view[0]}`, "aria-controls": "view" }, view[1]);
      tab.addEventListener("click", () => show(view));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = views[(number + step + views.length) % views.length];
        show(next);
        tabs.get(next[0]).focus();
      });
      tabs.set(view[0], tab);
      list.append(tab);
    });
  }

  function makeFilter() {
    const counts = new Map();
    for (const result of results) counts.set(result.status, (counts.get(result.status) || 0) + 1);
    for (const host of hosts) if (!host.results.length) counts.set(host.status, (counts.get(host.status) || 0) + 1);
    const group = document.getElementById("statuses");
    for (const [status, count] of [...counts].sort((a, b) => a[0] - b[0])) {
      const button = make("button", { type: "button", "aria-pressed": "false" }, statusSpan(status, ` ${count}`));
      button.addEventListener("click", () => {
        const isOn = !filter.statuses.delete(status) && Boolean(filter.statuses.add(status));
        button.setAttribute("aria-pressed", String(isOn));
        refresh();
      });
      group.append(button);
    }
    const search = document.getElementById("search");
    let timer = 0;
    search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        filter.text = search.value.trim().toLowerCase();
        refresh();
      }, 150);
    });
    document.getElementById("search-form").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("keydown", (event) => {
      if (event.key === "/" && !event.ctrlKey && !event.metaKey && event.target !== search) {
        event.preventDefault();
        search.focus();
      }
    });
  }

  function showSummary() {
    document.getElementById("title").textContent = data.title;
    const state = document.getElementById("state");
    state.textContent = data.state;
    state.classList.add(data.state);
    document.getElementById("totals").textContent = data.totals;
    document.getElementById("about").append(...data.about.map(([name, value, isCode]) =>
      make("div", {}, make("dt", {}, name), make("dd", { className: isCode ? "mono" : "" }, value))));
    document.getElementById("footer").textContent = data.footer;
    const failures = document.getElementById("failures");
    failures.hidden = !data.failures.length;
    fill(failures.lastElementChild, data.failures, ([names, status, reason, position, stderr, hint]) => {
      const part = make("div", { className: "problem" },
        make("p", {}, make("strong", {}, names), " ", statusSpan(status), reason ? `: ${reason}` : ""));
      if (position) part.append(make("p", { className: "position" }, "at ", make("code", {}, position)));
      if (stderr) part.append(make("pre", { tabIndex: 0, "aria-label": "standard error" }, text(stderr)));
      if (hint) part.append(make("p", { className: "dim" }, `help: ${hint}`));
      return part;
    });
    const warnings = document.getElementById("warnings");
    warnings.hidden = !data.warnings.length;
    warnings.lastElementChild.append(...data.warnings.map((each) => make("li", {}, each)));
  }

  showSummary();
  makeTabs();
  makeFilter();
  refresh();
})();

// An audit marks what the other model says about each token of a finished text; it never changes the text.

const toggle = find('.audit-toggle'), auditNote = find('.audit-note');
let audited = false, auditDrawn = '';

const drawAudit = () => {
  const found = over() && tokens.length ? latest.audit : null, key = `${Boolean(found)}/${audited}/${latest?.n}/${found?.unknown}`;
  if (!found && key === auditDrawn) return;
  auditDrawn = key;
  toggle.disabled = !found;
  toggle.setAttribute('aria-pressed', audited && Boolean(found));
  for (const kind of ['missed', 'wasted']) {
    box.querySelectorAll(`.${kind}`).forEach((span) => span.classList.remove(kind));
    const places = (audited && found?.[kind]) || [];
    places.forEach((i) => spans[i]?.classList.add(kind));
    const jump = find(`[data-kind="${kind}"]`);
    jump.hidden = !(audited && found);
    jump.querySelectorAll('button').forEach((button) => { button.disabled = places.length === 0; });
    find(`[data-count="${kind}"]`).textContent = places.length;
  }
  auditNote.textContent = !found ? '' : !audited ? 'which tokens would the other model have written?'
    : found.unknown ? `${found.unknown} not known: the text was cut short` : '';
};

toggle.addEventListener('click', () => {
  audited = !audited;
  drawAudit();
  if (audited && latest.audit.unknown && branchable()) trigger('change_text', { kind: 'reveal' });   // one pass, for what was cut short
});

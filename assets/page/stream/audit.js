// An audit marks what the other model says about each token of a finished text; it never changes the text.
import { finder } from '../lib/dom.js';

// Returns what draws it.
export const startAudit = (text, { element, trigger }) => {
  const find = finder(element), toggle = find('.audit-toggle');
  let on = false, drawn = '';

  const draw = () => {
    const { over, tokens, message, spans } = text, audit = over && tokens.length ? message.audit : null, shown = on && audit;
    const key = `${Boolean(audit)}/${on}/${message?.n}`;
    if (!audit && key === drawn) return;
    drawn = key;
    toggle.disabled = !audit;
    toggle.setAttribute('aria-pressed', Boolean(shown));
    for (const kind of ['missed', 'wasted']) {
      const places = new Set(shown?.[kind]), jump = find(`[data-kind="${kind}"]`);
      spans.forEach((span, i) => span.classList.toggle(kind, places.has(i)));
      jump.hidden = !shown;
      jump.querySelectorAll('button').forEach((button) => { button.disabled = places.size === 0; });
      jump.querySelector('b').textContent = places.size;
    }
    find('.audit-note').textContent = !audit ? '' : !on ? 'does the other model agree?'
      : audit.unknown ? `${audit.unknown} not known yet` : '';
  };

  toggle.addEventListener('click', () => {
    on = !on;
    draw();
    if (on && text.message.audit.unknown && text.branchable) trigger('change_text', { kind: 'reveal' });   // what was cut short is read to its end
  });
  return draw;
};

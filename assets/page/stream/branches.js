// The tree of texts that begin alike, to go back to.
import { makeButton } from '../lib/dom.js';
import { spelled } from '../lib/format.js';
import { NAMES } from '../lib/threshold.js';

const labelOf = ([number, , index, author, text]) => (number === 0 ? 'first text'
  : `token ${index + 1} → ${text === null ? '…' : `‘${spelled(text)}’`} (${NAMES[author]})`);

const depthOf = ([, parent], all) => (parent === null ? 0 : 1 + depthOf(all[parent], all));

// Returns what draws it.
export const startBranches = (text, { element, trigger }) => {
  const tree = element.querySelector('.branches');
  let drawn = '';

  return () => {
    const all = text.message?.branches ?? [], key = JSON.stringify([all, text.message?.branch, text.over]);
    if (key === drawn) return;
    drawn = key;
    tree.hidden = all.length < 2;
    tree.replaceChildren(...all.map((branch) => {
      const [number] = branch, button = makeButton('branch', labelOf(branch)), here = number === text.message.branch;
      button.style.marginInlineStart = `${12 * depthOf(branch, all)}px`;
      button.setAttribute('aria-current', here);
      button.disabled = !text.over || here;
      button.addEventListener('click', () => {
        trigger('change_text', { kind: 'go_to', number });
        trigger('go_to', { number });
      });
      return button;
    }));
  };
};

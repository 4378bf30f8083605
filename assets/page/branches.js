// The tree of texts that begin alike, to go back to.

const tree = find('.branches');
let treeDrawn = '';

const labelOf = ([number, , index, author, text]) => (number === 0 ? 'first text'
  : `token ${index + 1} → ${text === null ? '…' : `‘${spelled(text)}’`} (${NAMES[author]})`);

const depthOf = (branch, all) => (branch[1] === null ? 0 : 1 + depthOf(all[branch[1]], all));

const drawBranches = () => {
  const all = latest?.branches ?? [], key = JSON.stringify([all, latest?.branch, over()]);
  if (key === treeDrawn) return;
  treeDrawn = key;
  tree.hidden = all.length < 2;
  tree.replaceChildren(...all.map((branch) => {
    const button = make('button', 'branch', labelOf(branch));
    button.type = 'button';
    button.value = branch[0];
    button.style.marginInlineStart = `${12 * depthOf(branch, all)}px`;
    button.setAttribute('aria-current', branch[0] === latest.branch);
    button.disabled = !over() || branch[0] === latest.branch;
    return button;
  }));
};

tree.addEventListener('click', (event) => {
  const button = event.target.closest('.branch:not(:disabled)');
  if (!button) return;
  trigger('change_text', { kind: 'go_to', number: Number(button.value) });
  trigger('go_to', { number: Number(button.value) });
});

const openTarget = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target?.closest("details");
  if (details) { details.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", openTarget);
openTarget();

const compare = (a, b, sign) => {
  const [x, y] = [a, b].map((cell) => cell.dataset.value === undefined ? NaN : Number(cell.dataset.value));
  if (isNaN(x) && isNaN(y)) return sign * a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
  return sign * (x - y);
};
const table = document.getElementById("table");
const heads = table ? [...table.tHead.rows[1].cells] : [];
heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compare(a.cells[column], b.cells[column], ascending ? 1 : -1));
  table.tBodies[0].append(...rows);
}));
